"""Whether one agent is better than another on the same episodes, and not by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.statistics import Interval, clustered_bootstrap

EXACT_UP_TO_CLUSTERS = 14
"""With so many books or fewer all 2^n ways to flip them are gone through."""


@dataclass(frozen=True)
class Measurements:
    """Improvements of one row, in the order of the episodes; a control has no decoding."""

    label: str
    decoding: str | None
    improvements: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """By how many points of improvement `first` is ahead of `second`, episode by episode.

    `p_value` is that of the sign-flip test over books, two-sided; `p_holm` is corrected for all
    comparisons between agents, or for all of agents with controls. `share_ahead` counts an episode
    on which both are equal as half.
    """

    first: str
    second: str
    difference: Interval
    share_ahead: float
    p_value: float
    p_holm: float

    def as_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference.as_json(),
            "share_ahead": self.share_ahead,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
        }


def compare(
    rows: Sequence[Measurements], books: Sequence[str], num_samples: int
) -> tuple[Comparison, ...]:
    """Agents that answer in the same way with each other, then each agent with every control.

    These are two questions, so each has its own correction. The later agent of the table stands
    first.
    """
    agents = [row for row in rows if row.decoding is not None]
    controls = [row for row in rows if row.decoding is None]
    questions = (
        [(b, a) for a, b in combinations(agents, 2) if a.decoding == b.decoding],
        list(product(agents, controls)),
    )
    return tuple(
        replace(found, p_holm=corrected)
        for pairs in questions
        for found, corrected in _corrected([_comparison(*p, books, num_samples) for p in pairs])
    )


def _corrected(found: Sequence[Comparison]) -> Iterator[tuple[Comparison, float]]:
    return zip(found, holm([comparison.p_value for comparison in found]), strict=True)


def _comparison(
    first: Measurements, second: Measurements, books: Sequence[str], num_samples: int
) -> Comparison:
    differences = np.subtract(first.improvements, second.improvements)
    p_value = sign_flip_p_value(differences.tolist(), books, num_samples)
    return Comparison(
        first.label,
        second.label,
        clustered_bootstrap(differences.tolist(), books, num_samples),
        float(np.mean((differences > 0) + 0.5 * (differences == 0))),
        p_value,
        p_value,
    )


def sign_flip_p_value(
    differences: Sequence[float], clusters: Sequence[str], num_samples: int, seed: int = 0
) -> float:
    """Two-sided p-value that the mean difference is 0, from flipping the signs of whole clusters.

    If neither is better, the differences of a book are as likely as their opposites. Exact where
    there are few clusters; else from `num_samples` draws, with the observed one among them. n
    clusters give no value under 2 / 2^n, and one cluster gives 1.
    Source: Fisher 1935, section 21; by clusters, Cameron & Miller 2015, section VI.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums_C = np.bincount(index, weights=np.asarray(differences, dtype=np.float64))
    observed = abs(float(sums_C.sum()))
    # Sums that differ by rounding alone are equal.
    threshold = observed - 1e-9 * max(1.0, float(np.abs(sums_C).sum()))
    if len(names) <= EXACT_UP_TO_CLUSTERS:
        flipped = np.abs(_all_signs(len(names)) @ sums_C)
        return float(np.mean(flipped >= threshold))
    rng = np.random.default_rng(seed)
    signs_SC = rng.integers(0, 2, size=(num_samples, len(names))) * 2.0 - 1.0
    reached = int(np.count_nonzero(np.abs(signs_SC @ sums_C) >= threshold))
    return (1 + reached) / (1 + num_samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for being several, in order. Source: Holm 1979."""
    order = np.argsort(np.asarray(p_values))
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _all_signs(num_clusters: int) -> NDArray[np.float64]:
    """Every way to give each cluster a sign, shape [2^clusters, clusters]."""
    codes = np.arange(2**num_clusters)[:, None]
    return (codes >> np.arange(num_clusters) & 1) * 2.0 - 1.0
