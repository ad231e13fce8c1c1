"""The gain on the tokens that the attempts differ on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import ClassVar

from rewards.types import Measured


@dataclass(frozen=True)
class VarianceWeighted:
    """Mean gain per token of y, each token weighted by how much the group differs on it.

        σ_t   = standard deviation over the group of log p(y_t | x, aᵢ, y_<t)
        w_t   = σ_t / Σσ                        (1/|y| where all σ are 0)
        value = Σ_t w_t · [log p(y_t | x, aᵢ, y_<t) − log p(y_t | x, y_<t)]

    In nats per token, exactly 0 for an empty plan. In a long chapter a plan moves few tokens, and
    the rest dilutes them. It is not the exponential of an improvement, which a few tokens of
    several nats would blow up.
    Source: after Xu et al. 2025 (DRO, arXiv 2506.13351), whose Reasoning Reflection Reward weights
    the log-likelihood of the reference's tokens by their standard deviation over the group; the
    comparison with no plan and the normalised weights are choices made here.
    """

    needs_group: ClassVar[bool] = True

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        weights = token_weights([m.gold.with_plan.token_nll for m in group])
        return [weighted_gain(m, weights) for m in group]


def token_weights(token_nll_by_attempt: Sequence[Sequence[float]]) -> list[float]:
    """One weight per token, together 1: its standard deviation over the attempts, normalised."""
    deviations = [pstdev(costs) for costs in zip(*token_nll_by_attempt, strict=True)]
    total = math.fsum(deviations)
    if total == 0.0:
        return [1 / len(deviations)] * len(deviations)
    return [deviation / total for deviation in deviations]


def weighted_gain(measured: Measured, weights: Sequence[float]) -> float:
    costs = zip(
        weights, measured.gold.with_plan.token_nll, measured.gold.baseline.token_nll, strict=True
    )
    return math.fsum(weight * (before - after) for weight, after, before in costs)
