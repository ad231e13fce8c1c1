"""Dynamic sampling: groups that teach nothing are sampled again, within bounds, and counted.

Source: Yu et al. 2025, arXiv 2503.14476, section 3.2.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from envs.tokens import chat_text
from envs.types import Reply, Rollout
from rewards.types import Score
from train.rollouts import Judge
from train.signal import has_signal

Group = list["Attempt"]


@dataclass(frozen=True)
class Attempt:
    """One answer in token ids, with its log-probabilities where the sampler gives any, and what it
    is worth."""

    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float] | None
    rollout: Rollout
    score: Score


class DynamicSampler:
    """Samples the groups of one generation step, those without signal again up to `max_refills`
    times: the same episodes anew, or others. A group that stays without signal is kept.

    At most `episodes_at_once` groups are sampled together; where the scorer works in the
    background, those are scored while the next ones are sampled.

    It is TRL's `rollout_func`. Every process has whole groups and goes through equally many rounds.
    `metrics` tells of the last step, for this process.
    """

    def __init__(
        self,
        judge: Judge,
        tokenizer: PreTrainedTokenizerBase,
        end_ids: frozenset[int],
        *,
        group_size: int,
        max_refills: int,
        refill_with: Literal["episodes", "attempts"],
        noise: float,
        seed: int,
        episodes_at_once: int | None = None,
    ) -> None:
        self.judge = judge
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.group_size = group_size
        self.max_refills = max_refills
        self.refill_with = refill_with
        self.noise = noise
        self.seed = seed
        self.episodes_at_once = episodes_at_once
        self.metrics: dict[str, float] = {}

    def __call__(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], trainer: Any
    ) -> dict[str, Any]:
        """What TRL learns from: ids and log-probabilities, and columns for its reward function."""
        asked = [prompt[0]["episode_id"] for prompt in prompts[:: self.group_size]]
        groups = self._attempt(asked, trainer)
        num_refilled = num_sampled_again = 0
        for number in range(self.max_refills):
            dull = [i for i, group in enumerate(groups) if not self._has_signal(group)]
            # Sampling and scoring are collective, so all processes sample as many groups as the one
            # that lacks most.
            most = _most_of_all_processes(len(dull), trainer)
            if not most:
                break
            num_sampled_again += most
            sampled = self._attempt(self._again(dull, asked, most, number, trainer), trainer)
            better = self._better(dull, sampled)
            for i, group in better.items():
                groups[i] = group
            num_refilled += len(better)
        if self.max_refills:
            self.metrics = {
                "groups/refilled": num_refilled / len(groups),
                "groups/sampled_again": num_sampled_again / len(groups),
            }
        attempts = [attempt for group in groups for attempt in group]
        return {
            "prompt_ids": [a.prompt_ids for a in attempts],
            "completion_ids": [a.ids for a in attempts],
            "logprobs": [a.logprobs for a in attempts] if attempts[0].logprobs else None,
            "episode_id": [a.rollout.episode.episode_id for a in attempts],
            "judged": [(a.rollout, a.score) for a in attempts],
        }

    def _attempt(self, episode_ids: Sequence[str], trainer: Any) -> list[Group]:
        """A whole group for each episode."""
        repeated = [id_ for id_ in episode_ids for _ in range(self.group_size)]
        prompt_ids = [self._prompt_ids(id_) for id_ in repeated]
        together = (self.episodes_at_once or len(episode_ids)) * self.group_size
        answers: list[list[int]] = []
        logprobs: list[list[float] | None] = []
        replies: list[Reply] = []
        for start in range(0, len(repeated), together):
            part = slice(start, start + together)
            # TRL's own sampling, so that vLLM, continuous batching and ZeRO-3 work here as well.
            ids, found = trainer._generate_single_turn(prompt_ids[part], None, {}, self.group_size)
            answers += ids
            logprobs += found or [None] * len(ids)
            replies += [self._reply(answer) for answer in ids]
            if start + together < len(repeated):
                self.judge.foresee(repeated[part], replies[part])
        rollouts, scores = self.judge(repeated, replies)
        attempts = [
            Attempt(*one)
            for one in zip(prompt_ids, answers, logprobs, rollouts, scores, strict=True)
        ]
        size = self.group_size
        return [attempts[start : start + size] for start in range(0, len(attempts), size)]

    def _prompt_ids(self, episode_id: str) -> list[int]:
        asked = self.judge.env.ask(self.judge.episodes[episode_id])
        return self.tokenizer(chat_text(self.tokenizer, asked), add_special_tokens=False)[
            "input_ids"
        ]

    def _reply(self, ids: Sequence[int]) -> Reply:
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return Reply(text, truncated=ids[-1] not in self.end_ids)

    def _has_signal(self, group: Group) -> bool:
        return has_signal([attempt.score for attempt in group], self.noise)

    def _again(
        self, dull: Sequence[int], asked: Sequence[str], count: int, number: int, trainer: Any
    ) -> list[str]:
        """The episodes to sample in place of the dull ones; a resumed run draws the same.

        No episode comes twice: some rewards compare all attempts at it that they are shown at once.
        """
        if self.refill_with == "attempts":
            others = (i for i in range(len(asked)) if i not in set(dull))
            return [asked[i] for i in (*dull, *others)][:count]
        where = (self.seed, trainer.state.global_step, trainer.accelerator.process_index, number)
        rng = random.Random("/".join(map(str, where)))
        unasked = [id_ for id_ in self.judge.episodes if id_ not in set(asked)]
        return (rng.sample(unasked, len(unasked)) + rng.sample(asked, len(asked)))[:count]

    def _better(self, dull: Sequence[int], sampled: Sequence[Group]) -> dict[int, Group]:
        """What takes the place of which dull group; new attempts take that of their own episode."""
        if self.refill_with == "attempts":
            own = zip(dull, sampled, strict=False)
            return {i: group for i, group in own if self._has_signal(group)}
        return dict(zip(dull, filter(self._has_signal, sampled), strict=False))


def _most_of_all_processes(count: int, trainer: Any) -> int:
    counted = torch.tensor([count], device=trainer.accelerator.device)
    return int(trainer.accelerator.gather(counted).max())
