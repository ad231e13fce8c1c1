"""Plays rollouts: which episodes, what the policy answers, and what the answers are worth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import Answer, Sampling, TransformersAgent
from train.ppo.settings import PpoSettings
from train.rollouts import Judge, OnScored, summary

T = TypeVar("T")


@dataclass(frozen=True)
class Played:
    """The answers of one process to its episodes of one rollout, and their scores."""

    answers: tuple[Answer, ...]
    scores: tuple[float, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Player:
    """Plays any rollout by its number. What it draws follows from seed, number and process alone,
    so that a resumed run draws the same.
    """

    judge: Judge
    tokenizer: PreTrainedTokenizerBase
    settings: PpoSettings
    seed: int
    on_scored: OnScored | None = None

    def play(
        self, number: int, process: int, num_processes: int, policy: PreTrainedModel
    ) -> Played:
        settings = self.settings
        drawn = drawn_episodes(
            number, settings.episodes_per_rollout, list(self.judge.episodes.values()), self.seed
        )
        share = len(drawn) // num_processes
        attempted = [
            episode
            for episode in drawn[process * share : (process + 1) * share]
            for _ in range(settings.num_generations)
        ]
        agent = TransformersAgent(
            policy,
            self.tokenizer,
            Sampling(settings.max_completion_length, settings.temperature),
            settings.per_device_batch_size,
            derived_seed(self.seed, "sampling", number, process),
        )
        answers = agent.answer([self.judge.env.ask(episode) for episode in attempted])
        replies = [agent.read(answer) for answer in answers]
        rollouts, scores = self.judge([e.episode_id for e in attempted], replies)
        if self.on_scored is not None:
            self.on_scored(rollouts, scores)
        rewards = [score.reward for score in scores]
        lengths = [len(answer.ids) for answer in answers]
        metrics = {
            **summary(rollouts, scores),
            "reward": fmean(rewards),
            "reward_std": pstdev(rewards),
            "completions/mean_length": fmean(lengths),
            "completions/max_length": float(max(lengths)),
            "completions/clipped_ratio": fmean(reply.truncated for reply in replies),
        }
        return Played(tuple(answers), tuple(rewards), metrics)


def drawn_episodes(number: int, per_rollout: int, episodes: Sequence[T], seed: int) -> list[T]:
    """The episodes of a rollout: each pass over all of them goes in an order of its own."""
    first = number * per_rollout
    places = range(first, first + per_rollout)
    orders: dict[int, list[int]] = {}
    for one_pass in {place // len(episodes) for place in places}:
        order = list(range(len(episodes)))
        random.Random(derived_seed(seed, "order", one_pass)).shuffle(order)
        orders[one_pass] = order
    return [episodes[orders[place // len(episodes)][place % len(episodes)]] for place in places]


def derived_seed(*names: object) -> int:
    """A seed for one purpose: other names, other numbers."""
    return random.Random("/".join(str(name) for name in names)).getrandbits(48)
