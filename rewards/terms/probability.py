"""The gain in mean token probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rewards.types import Likelihood, Measured


@dataclass(frozen=True)
class Probability:
    """max(0, p̄(y|x,a) − p̄(y|x)), where p̄ is the mean over y's tokens of their probability.

    In [0, 1]. A mean of probabilities is not dominated by the few tokens that cost most, as a mean
    of their logarithms is; for the same reason it hardly sees whether a rare word became ten times
    as likely. Probabilities have been reported to fail as rewards of long answers, where their
    logarithms work (arXiv 2602.03979).
    Source: Yu et al. 2025 (RLPR, arXiv 2506.18254): the reference's mean token probability, less
    that without reasoning, clipped to [0, 1].
    """

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [
            max(0.0, mean_probability(m.gold.with_plan) - mean_probability(m.gold.baseline))
            for m in group
        ]


def mean_probability(likelihood: Likelihood) -> float:
    return fmean(math.exp(-nll) for nll in likelihood.token_nll)
