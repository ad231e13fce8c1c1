"""Estimates with 95 % intervals, by resampling whole clusters of votes and in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Z95 = 1.959964
"""The standard normal exceeds this in 2.5 % of draws."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None stands where the votes do not say."""

    value: float | None
    ci95: tuple[float, float] | None = None

    def as_json(self) -> dict[str, object]:
        return {"value": self.value, "ci95": self.ci95 and list(self.ci95)}


def resample_weights(num_clusters: int, num_samples: int, seed: int) -> Array:
    """How often each cluster is drawn in each resample, shape [num_samples, num_clusters].

    Source: Davison & Hinkley 1997, section 3.8 (cluster resampling).
    """
    chances = np.full(num_clusters, 1 / num_clusters)
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_clusters, chances, size=num_samples).astype(np.float64)


def estimate(value: float, resampled_S: Array, num_clusters: int) -> Estimate:
    """`value` with the percentile interval of its resamples.

    A resample that says nothing about it is NaN. There is no interval where that is so for more
    than one resample in twenty, nor where there is but one cluster to resample.
    """
    if math.isnan(value):
        return Estimate(None)
    said_S = resampled_S[~np.isnan(resampled_S)]
    if num_clusters < 2 or len(said_S) < 0.95 * len(resampled_S):
        return Estimate(value)
    low, high = np.quantile(said_S, (0.025, 0.975))
    return Estimate(value, (float(low), float(high)))


def wilson(successes: int, trials: int) -> tuple[float, float] | None:
    """The 95 % score interval of a share, its trials taken for independent.

    Unlike resampling it has a width where all trials end alike. Source: Wilson 1927.
    """
    if trials == 0:
        return None
    share, z2 = successes / trials, Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = Z95 * math.sqrt(spread) / (1 + z2 / trials)
    # Exact at the ends, where rounding would step outside.
    return (0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half)
