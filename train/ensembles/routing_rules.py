"""The rules of fusion that decide anew at each token: gates over the first writer's state."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rewards.likelihood.routing import ComplementaryRouting, Gate, TokenRouting
from train.ensembles.fusion_rules import FusionRule, Numbers, Sizes

# K writers, N positions, H hidden size of the first writer, V vocabulary, R rank of the router.


@dataclass(frozen=True)
class TokenRouter(FusionRule):
    """A gate decides at each token who writes it; all starts at equal shares (Co-LLM).

    `costs` are what asking each writer for a token costs, in nats; empty for nothing. A token costs
    Σ P(z = k) costₖ, the exact expectation over whom the gate would ask.
    """

    costs: tuple[float, ...] = ()

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        if self.costs and len(self.costs) != sizes.writers:
            raise ValueError(
                f"env.rule.costs: {len(self.costs)} costs for {sizes.writers} writers; "
                "give one for each, or none."
            )
        return _gate_at_start(sizes)

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> TokenRouting:
        return TokenRouting(_gate(numbers))

    def shares(self, numbers: Numbers, states_NH: Tensor) -> Tensor:
        return _gate(numbers).log_shares(states_NH).exp().mean(0)

    def penalty(self, numbers: Numbers, states_NH: Tensor) -> Tensor | None:
        if not self.costs:
            return None
        return (self.shares(numbers, states_NH) * torch.tensor(self.costs)).sum()


@dataclass(frozen=True)
class ComplementaryRouter(FusionRule):
    """A gate chooses one writer at each token, and adds logits of its own (FusionRoute).

    The choice itself has no gradient: it is learned by the likelihood's expectation over choices,
    and validated and used as a choice. The router's logits start at 0.
    """

    rank: Annotated[int, Field(gt=0)] = 8

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        down_RH = torch.randn(self.rank, sizes.hidden, generator=generator) / sizes.hidden**0.5
        router = {"down_RH": down_RH, "up_VR": torch.zeros(sizes.vocabulary, self.rank)}
        return _gate_at_start(sizes) | router

    def combine(
        self, numbers: Numbers, context_nll_K: Tensor | None = None
    ) -> ComplementaryRouting:
        return ComplementaryRouting(_gate(numbers), numbers["down_RH"], numbers["up_VR"])

    def learned_by(
        self, numbers: Numbers, context_nll_K: Tensor | None = None
    ) -> ComplementaryRouting:
        return dataclasses.replace(self.combine(numbers), is_hard=False)

    def shares(self, numbers: Numbers, states_NH: Tensor) -> Tensor:
        log_shares_NK = _gate(numbers).log_shares(states_NH)
        chosen_N = log_shares_NK.argmax(-1)
        return functional.one_hot(chosen_N, log_shares_NK.shape[1]).float().mean(0)


def _gate(numbers: Numbers) -> Gate:
    return Gate(numbers["gate_KH"], numbers["bias_1K"])


def _gate_at_start(sizes: Sizes) -> dict[str, Tensor]:
    return {
        "gate_KH": torch.zeros(sizes.writers, sizes.hidden),
        "bias_1K": torch.zeros(1, sizes.writers),
    }
