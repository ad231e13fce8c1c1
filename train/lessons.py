"""What a trainer learns from plays with several turns: one row for each trained turn.

A row is the turn's own prompt and answer, as the policy read and said them. Nothing that others
said is part of any answer, so only the trained roles' tokens carry loss. A play in which no trained
role has spoken has rows as well, as batches have a fixed size, but they weigh nothing: they carry
no loss, and no other attempt is compared with them. A reward that looks at groups sees them.
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
from train import ranks
from train.analysis.rows import costs_in_play, mean_of
from train.credit import centred_by_role, turn_credits
from train.reinforcement import ReinforcementSettings
from train.rewarding import rewarded

Settings = TypeVar("Settings", bound=ReinforcementSettings)


@dataclass(frozen=True)
class Lesson:
    """One trained turn. `reward` is what it is learned with; `score` is that of the whole play.

    Without a reward it is a row that nothing is learned from, and its answer only fills it.
    """

    answer: Answer
    role: str
    rollout: Rollout
    score: Score
    reward: float | None


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
    end_id: int,
    noise: float = 0.0,
) -> tuple[list[Lesson], dict[str, float]]:
    """Plays the episodes and gives `env.rows_per_play` lessons for each, in order, with metrics.

    `end_id` ends an answer. `noise` is by how many points improvements are off by rounding.

    Raises:
        ValueError: the reward failed.
    """
    rollouts = env.play(episodes, policy)
    scores = rewarded(reward, rollouts)
    places = [learned_places(r, env.rows_per_play, rng) for r in rollouts]
    rows = [
        _Row(rollout, score, None if place is None else rollout.turns[place])
        for rollout, score, own in zip(rollouts, scores, places, strict=True)
        for place in own
    ]
    metrics = cost_summary(rollouts)
    metrics["play/unheard"] = fmean(not rollout.is_heard for rollout in rollouts)
    worth = [None if row.turn is None else row.score.reward for row in rows]
    if credit == "turn":
        credits = turn_credits(env, reward, rollouts, scores, places)
        flat = [credit for own in credits for credit in own]
        metrics |= _credit_summary(rows, flat)
        worth = _centred(rows, flat, noise)
    return _lessons(rows, worth, env, end_id), metrics


def learned_places(rollout: Rollout, count: int, rng: random.Random) -> Sequence[int | None]:
    """The places of `count` trained turns: some at random, or all, the first of them again; None
    where there are none at all.

    So every play has equally many rows, and one that has any turn to learn from weighs as much as
    any other such play.
    """
    trained = [i for i, turn in enumerate(rollout.turns) if turn.is_trained]
    if not trained:
        return [None] * count
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


@dataclass(frozen=True)
class _Row:
    """A turn that is learned from, or none, of a play and its score."""

    rollout: Rollout
    score: Score
    turn: Turn | None


def _credit_summary(rows: Sequence[_Row], credits: Sequence[Score]) -> dict[str, float]:
    by_role: dict[str, list[float]] = defaultdict(list)
    for row, credit in zip(rows, credits, strict=True):
        if row.turn is not None:
            by_role[row.turn.role].append(credit.reward)
    return {f"credit/{role}": fmean(found) for role, found in by_role.items()}


def _centred(rows: Sequence[_Row], credits: Sequence[Score], noise: float) -> list[float | None]:
    """What each row's turn contributed, compared within its episode and role."""
    spoken = [
        (credit, (row.rollout.episode.episode_id, row.turn.role))
        for row, credit in zip(rows, credits, strict=True)
        if row.turn is not None
    ]
    found = iter(centred_by_role([credit for credit, _ in spoken], [g for _, g in spoken], noise))
    return [None if row.turn is None else next(found) for row in rows]


def _lessons(
    rows: Sequence[_Row], worth: Sequence[float | None], env: Collaboration, end_id: int
) -> list[Lesson]:
    nobody = _heard_anywhere(rows, env)
    filling = Answer((end_id,), (end_id,), (0.0,))
    return [
        Lesson(filling, nobody, row.rollout, row.score, None)
        if row.turn is None
        else Lesson(_answer(row.turn), row.turn.role, row.rollout, row.score, value)
        for row, value in zip(rows, worth, strict=True)
    ]


def _heard_anywhere(rows: Sequence[_Row], env: Collaboration) -> str:
    """The trained role that was heard most, in any process: rows in its name give no adapters a
    gradient that would have none. The first, if none was.
    """
    roles = list(filter(env.cast.is_trained, env.most_turns))
    spoken = [row.turn.role for row in rows if row.turn is not None]
    counts = ranks.summed([float(spoken.count(role)) for role in roles])
    return roles[counts.index(max(counts))]


def _answer(turn: Turn) -> Answer:
    assert turn.reply.answer is not None, "the policy's sampler keeps its token ids"
    return turn.reply.answer
