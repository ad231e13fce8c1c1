"""The monitors by name: what each measures on the probe, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Monitor:
    """`meaning` stands in tables and in the docs, `remedy` in the line of a warning or stop."""

    meaning: str
    remedy: str


_COPYING = "the policy restates what it read: take reward.rules or a term that does not pay for it"
_LENGTH = "add rewards.terms.length.Length, or take reward=rank"
_EMPTY_TALK = "the gain does not come from what the plan says: take reward=contrastive"
_COLLAPSE = "raise trainer.beta, or lower trainer.learning_rate"
_FORM = "raise trainer.max_completion_length, or lower what reward.rules pays for such answers"

MONITORS: Mapping[str, Monitor] = {
    "reward": Monitor("mean reward of the sampled answers", "look at the other monitors"),
    "gain": Monitor(
        "mean improvement of the plans that were scored, in per cent",
        "lower trainer.learning_rate, or raise trainer.beta",
    ),
    "plan_unseen_trigrams": Monitor(
        "share of the plan's trigrams that do not stand in its prompt", _COPYING
    ),
    "answer_unseen_trigrams": Monitor(
        "share of the whole answer's trigrams that do not stand in its prompt", _COPYING
    ),
    "gold_overlap": Monitor(
        "share of the plan's trigrams that stand in the gold chapter",
        "the chapter may have got into the prompt: look for it with envs.prompts.prompt_leaks",
    ),
    "length_reward_correlation": Monitor(
        "correlation of plan length and reward within groups", _LENGTH
    ),
    "margin_empty": Monitor("gain over an empty plan, in points", _EMPTY_TALK),
    "margin_shuffled": Monitor("gain over a plan made for another book, in points", _EMPTY_TALK),
    "margin_random": Monitor("gain over random words of the same number, in points", _EMPTY_TALK),
    "second_gain": Monitor(
        "improvement of the same plans under the second generator, in per cent",
        "train with another generator, or with several",
    ),
    "second_gap": Monitor(
        "by how many points the gain exceeds that under the second generator",
        "the plans please one generator alone: train with another one",
    ),
    "gain_concentration": Monitor(
        "share of the nats gained that comes from the 5 % of tokens that gain most",
        "take reward=probability, or look in examples.md which tokens they are",
    ),
    "plan_words": Monitor("mean words of a plan", _LENGTH),
    "plan_words_ratio": Monitor("mean words of a plan, relative to the start", _LENGTH),
    "entropy": Monitor("mean entropy of the policy at each token it wrote, in nats", _COLLAPSE),
    "entropy_ratio": Monitor("the same, relative to the start", _COLLAPSE),
    "groups_without_signal": Monitor(
        "share of groups whose answers are all worth the same",
        "take a reward without steps (reward=raw, reward=rank), or raise trainer.num_generations",
    ),
    "no_plan": Monitor("share of answers that hold no plan", _FORM),
    "truncated": Monitor("share of answers that the length limit cut", _FORM),
}
