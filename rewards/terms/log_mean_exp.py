"""What an attempt adds to the likelihood of the chapter under the whole group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from rewards.types import Measured


@dataclass(frozen=True)
class LogMeanExp:
    """The group's log-mean likelihood with this attempt, less that of the others without it.

    With ℓᵢ = log p(y|x,aᵢ) in nats, summed over y's tokens, and temperature T:

        value = T · ( log[ (1/n) Σ_j exp(ℓⱼ/T) ] − log[ (1/(n−1)) Σ_{j≠i} exp(ℓⱼ/T) ] )

    In nats; exactly 0 for an attempt alone, and 0 where all are alike. The mean of likelihoods is
    ruled by the best attempt: at T = 1 and on long chapters it alone is paid, and what it is paid
    is its lead over the second. Larger T spread that; as T grows, the value becomes the difference
    to the mean of the others, over n.
    Source: Tang et al. 2025 (JEPO, arXiv 2503.19618): the gradient of the multi-sample Jensen bound
    with the leave-one-out bound as control variate; T = 1 there.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T, in nats."""

    needs_group: ClassVar[bool] = True

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        scaled = [-m.gold.with_plan.nll / self.temperature for m in group]
        if len(scaled) < 2:
            return [0.0] * len(scaled)
        whole = log_mean_exp(scaled)
        return [
            self.temperature * (whole - log_mean_exp([*scaled[:i], *scaled[i + 1 :]]))
            for i in range(len(scaled))
        ]


def log_mean_exp(values: Sequence[float]) -> float:
    """log of the mean of the exponentials, exact where all values are equal."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values) / len(values))
