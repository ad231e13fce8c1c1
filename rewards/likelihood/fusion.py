"""Ways of combining the next-token distributions of several generators; pure functions.

Each returns scores whose softmax is the combined distribution: normalised after combining, by the
caller, and never before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# N positions, V vocabulary.


@dataclass(frozen=True)
class ProductOfExperts:
    """Σ wᵢ log pᵢ: every generator can veto."""

    weights: tuple[float, ...]

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(self.weights, logits_NV)
        # A generator's normaliser is the same for all tokens of a position, so it cancels.
        return sum_of(self.weights, logits_NV)


@dataclass(frozen=True)
class LinearMixture:
    """log Σ wᵢ pᵢ: any generator can propose. The weights sum to 1."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if min(self.weights) < 0 or not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise ValueError(
                f"mixture weights must be shares that sum to 1; got {list(self.weights)}. "
                "Divide them by their sum."
            )

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(self.weights, logits_NV)
        mixed_NV = torch.full_like(logits_NV[0], -math.inf)
        for weight, logits in zip(self.weights, logits_NV, strict=True):
            # A generator of no weight must not turn a token it rules out into nan.
            if weight:
                mixed_NV = torch.logaddexp(mixed_NV, logits.log_softmax(-1) + math.log(weight))
        return mixed_NV


@dataclass(frozen=True)
class Contrast:
    """z + α (z⁺ − z⁻) of a base, an expert and an anti-expert, in that order.

    Source: DExperts, Liu et al. 2021, arXiv 2105.03023.
    """

    alpha: float = 1.0

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        weights = (1.0, self.alpha, -self.alpha)
        _check_number(weights, logits_NV)
        return sum_of(weights, logits_NV)


def sum_of(weights: Sequence[float], logits_NV: Sequence[Tensor]) -> Tensor:
    """Σ wᵢ zᵢ, in a tensor of its own."""
    summed_NV = weights[0] * logits_NV[0]
    for weight, logits in zip(weights[1:], logits_NV[1:], strict=True):
        summed_NV.add_(logits, alpha=weight)
    return summed_NV


def _check_number(weights: Sequence[float], logits_NV: Sequence[Tensor]) -> None:
    if len(weights) != len(logits_NV):
        raise ValueError(
            f"a mixture of {len(logits_NV)} generators is combined with {len(weights)} weights; "
            "give one weight per generator."
        )
