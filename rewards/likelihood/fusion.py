"""Ways of combining the next-token distributions of several generators; pure functions.

Each returns scores whose softmax is the combined distribution: normalised after combining, by the
caller, and never before. Weights are numbers, or tensors where they are being learned: the scores
are differentiable in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# N positions, V vocabulary.

Number = float | Tensor
Numbers = tuple[float, ...] | Tensor


@dataclass(frozen=True)
class ProductOfExperts:
    """Σ wᵢ log pᵢ: every generator can veto. Weights that sum to 1 weigh objectives.

    Sources: Hinton 2002; for objectives, multi-objective decoding, Shi et al. 2024,
    arXiv 2406.18853; with weights by perplexity, PackLLM, Mavromatis et al. 2024, arXiv 2404.11531.
    """

    weights: Numbers

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(len(self.weights), logits_NV)
        # A generator's normaliser is the same for all tokens of a position, so it cancels.
        return sum_of(tuple(self.weights), logits_NV)


@dataclass(frozen=True)
class LinearMixture:
    """log Σ wᵢ pᵢ: any generator can propose. The weights sum to 1."""

    weights: Numbers

    def __post_init__(self) -> None:
        weights = self.weights
        shares = weights.detach().tolist() if isinstance(weights, Tensor) else list(weights)
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(
                f"mixture weights must be shares that sum to 1; got {shares}. "
                "Divide them by their sum."
            )

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(len(self.weights), logits_NV)
        mixed_NV = torch.full_like(logits_NV[0], -math.inf)
        for weight, logits in zip(self.weights, logits_NV, strict=True):
            # A generator of no weight must not turn a token it rules out into nan.
            if weight:
                log_weight = weight.log() if isinstance(weight, Tensor) else math.log(weight)
                mixed_NV = torch.logaddexp(mixed_NV, logits.log_softmax(-1) + log_weight)
        return mixed_NV


@dataclass(frozen=True)
class Contrast:
    """z + α (z⁺ − z⁻) of a base, an expert and an anti-expert, in that order.

    Sources: DExperts, Liu et al. 2021, arXiv 2105.03023; with a small tuned and a small untuned
    model, proxy tuning, Liu et al. 2024, arXiv 2401.08565.
    """

    alpha: Number = 1.0

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(3, logits_NV)
        return sum_of((1.0, self.alpha, -self.alpha), logits_NV)


@dataclass(frozen=True)
class ContextAware:
    """(1 + α) z − α z̸ of a generator that has read the context, and one that has not.

    Source: Shi et al. 2023, arXiv 2305.14739.
    """

    alpha: Number = 0.5

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(2, logits_NV)
        return sum_of((1 + self.alpha, -self.alpha), logits_NV)


@dataclass(frozen=True)
class PlausibleContrast:
    """(1 + α) log p⁺ − α log p⁻ among the tokens that the expert finds plausible, which are those
    at least `plausible` times as likely as its first choice. All others keep the probability that
    the expert gives them.

    The published form gives those others nothing, and so a gold token among them a likelihood of
    −∞. Here the contrast moves probability among plausible tokens only: H being they,

        p(t) = p⁺(H) · softmax_H((1 + α) log p⁺ − α log p⁻)(t)  for t in H,  p⁺(t) elsewhere,

    which sums to one, and is the expert's own distribution at α = 0.

    Sources: contrastive decoding, Li et al. 2023, arXiv 2210.15097, with the weights of O'Brien &
    Lewis 2023, arXiv 2309.09117.
    """

    alpha: Number = 0.5
    plausible: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.plausible <= 1:
            raise ValueError(
                f"plausible must be above 0 and at most 1; got {self.plausible}. "
                "It is a share of the probability of the expert's first choice."
            )

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(2, logits_NV)
        expert_NV = logits_NV[0].log_softmax(-1)
        least_N1 = expert_NV.amax(-1, keepdim=True) + math.log(self.plausible)
        is_plain_NV = expert_NV < least_N1
        contrast_NV = sum_of((1 + self.alpha, -self.alpha), (expert_NV, logits_NV[1]))
        inside_NV = contrast_NV.masked_fill(is_plain_NV, -math.inf).log_softmax(-1)
        mass_N1 = expert_NV.masked_fill(is_plain_NV, -math.inf).logsumexp(-1, keepdim=True)
        return torch.where(is_plain_NV, expert_NV, inside_NV + mass_N1)


def sum_of(weights: Sequence[Number], logits_NV: Sequence[Tensor]) -> Tensor:
    """Σ wᵢ zᵢ, in a tensor of its own."""
    summed_NV = weights[0] * logits_NV[0]
    for weight, logits in zip(weights[1:], logits_NV[1:], strict=True):
        summed_NV.add_(weight * logits)
    return summed_NV


def _check_number(num_weights: int, logits_NV: Sequence[Tensor]) -> None:
    if num_weights != len(logits_NV):
        raise ValueError(
            f"a mixture of {len(logits_NV)} generators is combined with {num_weights} weights; "
            "give one weight per generator."
        )
