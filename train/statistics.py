"""Intervals for means over episodes that come in books, and how the episodes are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    ci95: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """The ends of an unknown interval are None, as JSON holds no infinity."""
        return {"mean": self.mean, "ci95": [finite_or_none(end) for end in self.ci95]}


def clustered_bootstrap(
    values: Sequence[float], clusters: Sequence[str], num_samples: int, seed: int = 0
) -> Interval:
    """Mean of `values` and its 95 % percentile interval, resampling whole clusters (books).

    Chapters of one book are alike, so books, not chapters, are the independent draws. With one
    cluster there is nothing to resample, and the interval is unknown: (-inf, inf).
    Source: Davison & Hinkley 1997, section 3.8 (cluster resampling).
    """
    if len(values) != len(clusters) or not values:
        raise ValueError(
            f"one cluster per value, at least one; got {len(values)} and {len(clusters)}."
        )
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    sizes = np.bincount(index).astype(np.float64)
    mean = float(sums.sum() / sizes.sum())
    if len(names) == 1:
        return Interval(mean, (-np.inf, np.inf))
    draws = np.random.default_rng(seed).integers(len(names), size=(num_samples, len(names)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean, (float(low), float(high)))


SPREAD_AT = (0.05, 0.25, 0.5, 0.75, 0.95)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Quantiles of the values by name, `p5` to `p95`, with `min` and `max`."""
    levels = (0.0, *SPREAD_AT, 1.0)
    names = ("min", *(f"p{round(100 * level)}" for level in SPREAD_AT), "max")
    found = np.quantile(np.asarray(values, dtype=np.float64), levels)
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def finite_or_none(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
