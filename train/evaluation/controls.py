"""Rows that an agent is measured by: plans of other books, mere words, and no plan at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from envs.types import Episode, Guidance, Outcome, StoryContext
from rewards.monitors.controls import random_texts
from rewards.types import Likelihood
from train.analysis.rows import Attempt, Row
from train.evaluation.contestants import Writer
from train.evaluation.evaluator import Evaluator
from train.pace import SCORES


def control_plans(evaluator: Evaluator, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Plans that say nothing of the chapter: none, another book's, and mere words."""
    episodes = evaluator.episodes
    given = {"empty_plan": ["" for _ in episodes]}
    own = _own_plans(episodes, rows)
    if own is not None:
        if len(episodes) > 1:
            given["shuffled_plan"] = shuffled_plans(episodes, own, evaluator.seed)
        given["random_words"] = random_texts(episodes, own)
    return given


def _own_plans(episodes: Sequence[Episode], rows: Sequence[Row]) -> list[str] | None:
    """Each episode's true plan where all are known, else what the last agent planned."""
    if all("true" in e.plans for e in episodes):
        return [e.plans["true"] for e in episodes]
    agents = [row for row in rows if row.decoding is not None]
    return [a.plan for a in agents[-1].attempts] if agents else None


def shuffled_plans(episodes: Sequence[Episode], plans: Sequence[str], seed: int) -> list[str]:
    """For each episode a plan made for another book; where there is one book, for another episode.

    Raises:
        ValueError: there is no other episode to take a plan from.
    """
    rng = random.Random(seed)
    made_for = list(zip(episodes, plans, strict=True))
    shuffled = []
    for episode in episodes:
        elsewhere = [plan for other, plan in made_for if other.book_id != episode.book_id]
        in_book = [plan for other, plan in made_for if other.episode_id != episode.episode_id]
        if not in_book:
            raise ValueError("evaluation: one episode has no other's plan; evaluate two or more")
        shuffled.append(rng.choice(elsewhere or in_book))
    return shuffled


def other_writer(evaluator: Evaluator, name: str, writer: Writer) -> Row:
    """Another model in the generator's place, without a plan, on the same gold tokens."""
    load = cache(writer.load)

    def score(some: Sequence[Episode]) -> list[Likelihood]:
        return load().score([evaluator.reward.encoder.request(e) for e in some])

    return _against_baseline(evaluator, name, {"writer": writer.digest}, score)


def without_context(evaluator: Evaluator) -> Row:
    """The chapter without the story so far: whether the generator knows the book by heart.

    Near 0 it writes the chapter as well without having read what came before.
    """
    reward = evaluator.reward

    def score(some: Sequence[Episode]) -> list[Likelihood]:
        bare = [replace(e, context=StoryContext(()), plans={}) for e in some]
        golds = [reward.encoder.request(e).gold_ids for e in some]
        requests = [reward.encoder.request(e) for e in bare]
        # A window that holds less of a long chapter behind its context cuts both alike.
        return reward.scorer.score(
            [replace(r, gold_ids=gold) for r, gold in zip(requests, golds, strict=True)]
        )

    return _against_baseline(evaluator, "without_context", {"context": False}, score)


def _against_baseline(
    evaluator: Evaluator,
    name: str,
    key: Mapping[str, Any],
    score: Callable[[Sequence[Episode]], list[Likelihood]],
) -> Row:
    def both(pairs: Sequence[tuple[Episode, Outcome]]) -> list[tuple[Likelihood, Likelihood]]:
        found = score([episode for episode, _ in pairs])
        known = [baseline for _, baseline in evaluator.reward.likelihoods(pairs)]
        return list(zip(found, known, strict=True))

    def compare(some: Sequence[Episode]) -> list[Attempt]:
        return evaluator.timed(name, [(episode, Guidance("")) for episode in some], both)

    attempts = []
    for _, some in evaluator.batches():
        attempts += evaluator.kept(key, some, compare, name, (SCORES,))
    return evaluator.row(name, None, attempts)
