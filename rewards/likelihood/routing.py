"""Ways of combining that differ from token to token: a gate reads what stands before the token.

It sees the last hidden state of the first generator there, so that it knows neither the gold token
nor what follows, and writes with the mixture as well as it scores with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rewards.likelihood.known import Known, tensor_of

# N positions, K generators, H hidden size of the first, V vocabulary, R rank of the router.


@dataclass(frozen=True)
class Gate:
    """P(z = k): which generator writes the token, a softmax that is linear in the state.

    The state is scaled to a mean of 0 and a variance of 1 first, as families differ in its size.
    """

    weight_KH: Known | Tensor
    bias_1K: Known | Tensor

    def log_shares(self, states_NH: Tensor) -> Tensor:
        """log P(z = k) at each position: [N, K]."""
        scaled_NH = scaled(states_NH)
        scores_NK = scaled_NH @ tensor_of(self.weight_KH, scaled_NH).T
        return (scores_NK + tensor_of(self.bias_1K, scaled_NH)).log_softmax(-1)


@dataclass(frozen=True)
class TokenRouting:
    """log Σ P(z = k) p_k: the marginal likelihood over who writes each token.

    Source: Co-LLM, Shen et al. 2024, arXiv 2403.03870.
    """

    gate: Gate

    def at(self, states_NH: Tensor) -> _Marginal:
        return _Marginal(self.gate.log_shares(states_NH))


@dataclass(frozen=True)
class ComplementaryRouting:
    """z_k* + z_router: the generator that the gate likes best, and the router's own logits.

    The router's logits are of rank R in the state, since a full head of its own would be as large
    as the generator's. Where not `is_hard`, log Σ P(z = k) softmax(z_k + z_router): the expectation
    of the likelihood over the choice, which has a gradient for the gate as well; it is what the
    router learns by.

    Source: FusionRoute, Xiong et al. 2026, arXiv 2601.05106.
    """

    gate: Gate
    down_RH: Known | Tensor
    up_VR: Known | Tensor
    is_hard: bool = True

    def at(self, states_NH: Tensor) -> _Marginal | _Best:
        scaled_NH = scaled(states_NH)
        own_NR = scaled_NH @ tensor_of(self.down_RH, scaled_NH).T
        own_NV = own_NR @ tensor_of(self.up_VR, scaled_NH).T
        log_shares_NK = self.gate.log_shares(states_NH)
        return (_Best if self.is_hard else _Marginal)(log_shares_NK, own_NV)


class _Marginal:
    """log Σ shareₖ softmax(zₖ + own) at each position."""

    def __init__(self, log_shares_NK: Tensor, own_NV: Tensor | None = None) -> None:
        self.log_shares_NK = log_shares_NK
        self.own_NV = own_NV

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(self.log_shares_NK, logits_NV)
        mixed_NV: Tensor | None = None
        for log_share_N, logits in zip(self.log_shares_NK.T, logits_NV, strict=True):
            whole_NV = logits if self.own_NV is None else logits + self.own_NV
            part_NV = whole_NV.log_softmax(-1) + log_share_N[:, None]
            mixed_NV = part_NV if mixed_NV is None else torch.logaddexp(mixed_NV, part_NV)
        assert mixed_NV is not None
        return mixed_NV


class _Best:
    """z of the generator with the largest share, of equals the first, and the router's own."""

    def __init__(self, log_shares_NK: Tensor, own_NV: Tensor) -> None:
        self.log_shares_NK = log_shares_NK
        self.own_NV = own_NV

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        _check_number(self.log_shares_NK, logits_NV)
        best_N1 = self.log_shares_NK.argmax(-1, keepdim=True)
        best_NV = logits_NV[0]
        for k, logits in enumerate(logits_NV[1:], start=1):
            best_NV = torch.where(best_N1 == k, logits, best_NV)
        return best_NV + self.own_NV


def scaled(states_NH: Tensor) -> Tensor:
    return functional.layer_norm(states_NH.float(), states_NH.shape[-1:])


def _check_number(log_shares_NK: Tensor, logits_NV: Sequence[Tensor]) -> None:
    if log_shares_NK.shape[1] != len(logits_NV):
        raise ValueError(
            f"a gate over {log_shares_NK.shape[1]} generators routes a mixture of "
            f"{len(logits_NV)}; make it anew for these generators."
        )
