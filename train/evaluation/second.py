"""What the plans of a row are worth to a second generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from envs.types import Episode, Guidance
from rewards.likelihood_improvement import LikelihoodImprovement
from train.analysis.rows import Attempt, Row
from train.evaluation.evaluator import Evaluator
from train.pace import SCORES

WITHOUT_PLANS = ("empty_plan", "sft_baseline")
"""Rows that a second generator has nothing to say about."""


def again(
    evaluator: Evaluator, row: Row, digest: str, load: Callable[[], LikelihoodImprovement]
) -> Row:
    """The row with what its plans are worth to a second generator."""
    name = f"{row.label}, second generator"

    def score(plans: Sequence[str], some: Sequence[Episode]) -> list[Attempt]:
        pairs = [(e, Guidance(plan)) for e, plan in zip(some, plans, strict=True)]
        return evaluator.timed(name, pairs, lambda pairs: load().likelihoods(pairs))

    attempts = []
    for start, some in evaluator.batches():
        plans = [a.plan for a in row.attempts[start : start + len(some)]]
        key = {"second_generator": digest, "plans": plans}
        attempts += evaluator.kept(key, some, partial(score, plans), name, (SCORES,))
    return replace(row, second=evaluator.row(row.name, row.decoding, attempts).improvement)
