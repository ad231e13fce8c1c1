"""Whether the text whose plan has the larger improvement is also the one that readers prefer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.judging.intervals import Array, Estimate, estimate, wilson
from train.judging.judgments import TIE, Vote

# S resamples, N votes (each both ways round), C clusters, U distinct values.
VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Association:
    """Of improvement with preference on one dimension, over the votes with known improvements."""

    num_votes: int
    num_unknown: int
    """Votes for which an improvement is not known."""
    spearman: Estimate
    agreeing: int
    """Votes for the option with the larger improvement, and `disagreeing` for the other."""
    disagreeing: int

    def as_json(self) -> dict[str, Any]:
        decided = self.agreeing + self.disagreeing
        interval = wilson(self.agreeing, decided)
        return {
            "votes": self.num_votes,
            "votes_without_improvement": self.num_unknown,
            "spearman": self.spearman.as_json(),
            "larger_improvement_preferred": self.agreeing,
            "smaller_improvement_preferred": self.disagreeing,
            "share_larger_preferred": self.agreeing / decided if decided else None,
            "share_larger_preferred_wilson95": interval and list(interval),
        }


def association(
    votes: Sequence[Vote], cluster_of_vote: Sequence[int], weights_SC: Array
) -> Association:
    """Spearman's rank correlation of the difference in improvement with the vote: +1, 0 or -1.

    Each vote enters both ways round, (A, B) and (B, A): which option is called the first is
    arbitrary, and must not change the number.
    """
    gains, preferred, clusters, unknown = [], [], [], 0
    for vote, cluster in zip(votes, cluster_of_vote, strict=True):
        if vote.winner is None:
            continue
        if vote.judgment.improvements is None:
            unknown += 1
            continue
        first, second = vote.judgment.improvements
        gains.append(first - second)
        sign = 1.0 if vote.winner == vote.judgment.options[0] else -1.0
        preferred.append(0.0 if vote.winner == TIE else sign)
        clusters.append(cluster)
    if not gains:
        return Association(0, unknown, Estimate(None), 0, 0)
    agrees = np.asarray(gains) * np.asarray(preferred)
    gains_N, preferred_N = _both_ways(gains), _both_ways(preferred)
    whole_1N = np.ones((1, len(gains_N)))
    # A few resamples at a time: all of them weigh gigabytes where there are thousands of votes.
    parts = np.array_split(weights_SC, 1 + weights_SC.shape[0] * len(gains_N) // VALUES_AT_ONCE)
    resampled = [
        spearman(gains_N, preferred_N, np.tile(part_SC[:, clusters], 2)) for part_SC in parts
    ]
    return Association(
        len(gains),
        unknown,
        estimate(
            float(spearman(gains_N, preferred_N, whole_1N)[0]),
            np.concatenate(resampled),
            weights_SC.shape[1],
        ),
        int((agrees > 0).sum()),
        int((agrees < 0).sum()),
    )


def spearman(x_N: Array, y_N: Array, weights_SN: Array) -> Array:
    """Spearman's correlation under each row of weights, shape [S]; NaN where it is not defined.

    A weight of k counts an observation k times, and equal values share their mean rank.
    """
    ranks = [_ranks(values_N, weights_SN) for values_N in (x_N, y_N)]
    totals_S1 = weights_SN.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        x_SN, y_SN = (r - (weights_SN * r).sum(1, keepdims=True) / totals_S1 for r in ranks)
        spread_S = (weights_SN * x_SN**2).sum(1) * (weights_SN * y_SN**2).sum(1)
        return (weights_SN * x_SN * y_SN).sum(1) / np.sqrt(spread_S)


def _ranks(values_N: Array, weights_SN: Array) -> Array:
    """The mean rank of each value among the weighted values, less a constant."""
    order_N = np.argsort(values_N, kind="stable")
    _, starts, place_N = np.unique(values_N[order_N], return_index=True, return_inverse=True)
    counts_SU = np.add.reduceat(weights_SN[:, order_N], starts, axis=1)
    ranks_SN = np.empty_like(weights_SN)
    ranks_SN[:, order_N] = (np.cumsum(counts_SU, axis=1) - counts_SU / 2)[:, place_N]
    return ranks_SN


def _both_ways(values: Sequence[float]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    return np.concatenate((array, -array))
