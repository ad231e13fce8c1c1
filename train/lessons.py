"""What a trainer learns from plays with several turns: one row for each trained turn.

A row is the turn's own prompt and answer, as the policy read and said them. Nothing that others
said is part of any answer, so only the trained roles' tokens carry loss.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

from envs.collaboration.collaboration import Collaboration
from envs.types import Agent, Answer, Env, Episode, Rollout, Turn
from rewards.types import Reward, Score
from train.analysis.rows import costs_in_play, mean_of
from train.credit import centred_by_role, turn_credits
from train.reinforcement import ReinforcementSettings
from train.rewarding import rewarded

Settings = TypeVar("Settings", bound=ReinforcementSettings)


@dataclass(frozen=True)
class Lesson:
    """One trained turn. `reward` is what it is learned with; `score` is that of the whole play."""

    answer: Answer
    role: str
    rollout: Rollout
    score: Score
    reward: float


def rows_per_play(env: Env) -> int:
    """How many rows a trainer learns from for each attempt at an episode."""
    return env.rows_per_play if isinstance(env, Collaboration) else 1


def in_rows(settings: Settings, env: Env) -> Settings:
    """The settings with attempts counted in rows, as batches and groups of rows are laid out."""
    return replace(settings, num_generations=settings.num_generations * rows_per_play(env))


def play_lessons(
    env: Collaboration,
    reward: Reward,
    episodes: Sequence[Episode],
    policy: Agent,
    credit: str,
    rng: random.Random,
    noise: float = 0.0,
) -> tuple[list[Lesson], dict[str, float]]:
    """Plays the episodes and gives `env.rows_per_play` lessons for each, in order, with metrics.

    `noise` is by how many points improvements are off by rounding.

    Raises:
        ValueError: in a play nobody who learns has spoken, or the reward failed.
    """
    rollouts = env.play(episodes, policy)
    scores = rewarded(reward, rollouts)
    places = [learned_places(r, env.rows_per_play, rng) for r in rollouts]
    worth = [[score.reward] * env.rows_per_play for score in scores]
    metrics = cost_summary(rollouts)
    if credit == "turn":
        credits = turn_credits(env, reward, rollouts, scores, places)
        roles = [[r.turns[i].role for i in own] for r, own in zip(rollouts, places, strict=True)]
        metrics |= _credit_summary(credits, roles)
        worth = _centred(credits, roles, rollouts, noise)
    lessons = [
        Lesson(_answer(rollout.turns[place]), rollout.turns[place].role, rollout, score, value)
        for rollout, score, own, values in zip(rollouts, scores, places, worth, strict=True)
        for place, value in zip(own, values, strict=True)
    ]
    return lessons, metrics


def learned_places(rollout: Rollout, count: int, rng: random.Random) -> list[int]:
    """The places of `count` trained turns: some at random, or all, the first of them again.

    So every play has equally many rows and weighs as much as any other.
    """
    trained = [i for i, turn in enumerate(rollout.turns) if turn.is_trained]
    if not trained:
        raise ValueError(
            f"episode {rollout.episode.episode_id}: no role that learns has spoken in this play; "
            "name one that always speaks in env.cast.trained, or raise env.budget"
        )
    if len(trained) > count:
        return sorted(rng.sample(trained, count))
    return [trained[i % len(trained)] for i in range(count)]


def cost_summary(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means per play: what each member did, how often each event happened, what was measured."""
    return mean_of(
        {
            **costs_in_play(rollout.costs),
            **{f"play/{name}": v for name, v in {**rollout.events, **rollout.measures}.items()},
        }
        for rollout in rollouts
    )


def _credit_summary(
    credits: Sequence[Sequence[Score]], roles: Sequence[Sequence[str]]
) -> dict[str, float]:
    by_role: dict[str, list[float]] = defaultdict(list)
    for own, named in zip(credits, roles, strict=True):
        for credit, role in zip(own, named, strict=True):
            by_role[role].append(credit.reward)
    return {f"credit/{role}": fmean(found) for role, found in by_role.items()}


def _centred(
    credits: Sequence[Sequence[Score]],
    roles: Sequence[Sequence[str]],
    rollouts: Sequence[Rollout],
    noise: float,
) -> list[list[float]]:
    groups = [
        (rollout.episode.episode_id, role)
        for rollout, named in zip(rollouts, roles, strict=True)
        for role in named
    ]
    flat = iter(centred_by_role([credit for own in credits for credit in own], groups, noise))
    return [[next(flat) for _ in own] for own in credits]


def _answer(turn: Turn) -> Answer:
    assert turn.reply.answer is not None, "the policy's sampler keeps its token ids"
    return turn.reply.answer
