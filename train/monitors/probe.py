"""The fixed held-out episodes on which a run is watched, and everything that is measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.types import Env, Episode, Guidance, PlanStatus, Rollout
from rewards.groups import groups_of
from rewards.improvement import improvement_percent
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.monitors.concentration import top_share
from rewards.monitors.controls import random_texts
from rewards.monitors.copying import seen_share, unseen_share
from rewards.monitors.correlation import correlation_within_groups
from rewards.monitors.signal import share_without_signal
from rewards.types import Score
from train.evaluation.controls import shuffled_plans
from train.monitors.agreed import AgreedAgent
from train.monitors.entropy import mean_answer_entropy

Plans = Sequence[tuple[Episode, str]]


@dataclass(frozen=True)
class Probe:
    """Plays the same episodes with the same seed each time, and measures what came of it.

    `reward` is the run's own; `second` scores the same plans under a generator that the policy is
    not trained on. Controls and entropy are measured on the first attempt at each episode. With
    several processes all of them measure, on the same answers.
    """

    episodes: Sequence[Episode]
    attempts: int
    env: Env
    reward: LikelihoodImprovement
    second: LikelihoodImprovement | None
    sampling: Sampling
    batch_size: int
    seed: int

    def measure(
        self, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, float]:
        """The monitors by name; one that cannot be measured, as there are no plans or no answers of
        a role that learns, is left out."""
        agent = AgreedAgent(
            TransformersAgent(policy, tokenizer, self.sampling, self.batch_size, self.seed)
        )
        asked = [episode for episode in self.episodes for _ in range(self.attempts)]
        rollouts = self.env.play(asked, agent)
        scores = self.reward.scores(rollouts)
        first = rollouts[:: self.attempts]
        heard = [r for r in first if r.is_heard]
        plans = [(r.episode, r.outcome.plan) for r in first if r.outcome.plan]
        return {
            **_of_answers(rollouts),
            **_of_scores(rollouts, scores),
            **(self._of_controls(plans) if plans else {}),
            **({"entropy": mean_answer_entropy(policy, tokenizer, heard)} if heard else {}),
        }

    def _of_controls(self, plans: Plans) -> dict[str, float]:
        """By how much the plans are worth more than what should be worth nothing."""
        episodes, texts = [episode for episode, _ in plans], [plan for _, plan in plans]
        given = {
            "own": texts,
            "empty": [""] * len(plans),
            "random": random_texts(episodes, texts),
        }
        if len({e.episode_id for e in episodes}) > 1:
            given["shuffled"] = shuffled_plans(episodes, texts, self.seed)
        asked = [pair for tried in given.values() for pair in zip(episodes, tried, strict=True)]
        gains = mean_gains(self.reward, asked, len(plans))
        own, *others = gains
        found = {f"margin_{n}": own - gain for n, gain in zip([*given][1:], others, strict=True)}
        if self.second is not None:
            (second,) = mean_gains(self.second, plans, len(plans))
            found |= {"second_gain": second, "second_gap": own - second}
        return found


def mean_gains(reward: LikelihoodImprovement, plans: Plans, size: int) -> list[float]:
    """Mean improvement, in per cent, of every `size` plans."""
    outcomes = [(episode, Guidance(plan)) for episode, plan in plans]
    gains = [improvement_percent(*pair) for pair in reward.likelihoods(outcomes)]
    return [fmean(gains[start : start + size]) for start in range(0, len(gains), size)]


def _of_answers(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What can be seen without a generator."""
    with_plan = [(r, r.outcome.plan) for r in rollouts if r.outcome.plan]
    # What another member said is no answer of the policy.
    own = [r for r in rollouts if r.is_heard]
    shares = {
        "plan_unseen_trigrams": [unseen_share(plan, _prompt(r)) for r, plan in with_plan],
        "answer_unseen_trigrams": [unseen_share(r.reply.text, _prompt(r)) for r in own],
        "gold_overlap": [seen_share(plan, r.episode.chapter.text) for r, plan in with_plan],
        "plan_words": [float(len(plan.split())) for _, plan in with_plan],
        "truncated": [float(r.reply.truncated) for r in own],
    }
    means = {name: _mean(values) for name, values in shares.items()}
    return {
        **{name: mean for name, mean in means.items() if mean is not None},
        "no_plan": fmean(r.status is PlanStatus.NO_PLAN for r in rollouts),
    }


def _of_scores(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> dict[str, float]:
    """What the reward and the generator make of the answers."""
    groups = groups_of(rollouts)
    lengths = [float(len(r.outcome.plan.split())) for r in rollouts]
    compared = [
        [(lengths[i], scores[i].reward) for i in group if scores[i].improvement is not None]
        for group in groups
    ]
    found: dict[str, float | None] = {
        "reward": fmean(s.reward for s in scores),
        "gain": _mean([s.improvement for s in scores]),
        "groups_without_signal": share_without_signal(
            [[scores[i].reward for i in group] for group in groups]
        ),
        "length_reward_correlation": correlation_within_groups(compared),
        "gain_concentration": _mean(
            [top_share(s.likelihood, s.baseline) for s in scores if s.likelihood and s.baseline]
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


def _prompt(rollout: Rollout) -> str:
    return "\n".join(message.content for message in rollout.prompt)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there; None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
