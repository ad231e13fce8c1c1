"""The rules of fusion: which numbers each has, where they start, and how they combine writers.

A rule's numbers are named tensors, so that they can be learned, searched and saved alike. `combine`
is differentiable in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rewards.likelihood.fusion import (
    ContextAware,
    Contrast,
    LinearMixture,
    PlausibleContrast,
    ProductOfExperts,
)
from rewards.types import Combine, StateCombine

# K writers, N positions, H hidden size of the first writer, V vocabulary.

Numbers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Seats:
    """Who sits at a fusion, in the order of the rule; some may read neither context nor plan."""

    writers: tuple[str, ...]
    without_context: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """What the numbers of a rule depend on."""

    writers: int
    hidden: int
    vocabulary: int


class FusionRule(ABC):
    """One family of ways to combine writers. `num_writers` is None where any number will do, and
    `reads_context` tells that `combine` wants the writers' costs of the context, in nats a token.
    """

    num_writers: ClassVar[int | None] = None
    reads_context: ClassVar[bool] = False

    def seats(self, writers: Sequence[str]) -> Seats:
        """Who sits there when these writers are given.

        Raises:
            ValueError: they are too many, or too few.
        """
        wanted = self.num_writers
        if len(writers) != wanted if wanted is not None else len(writers) < 2:
            raise ValueError(
                f"env.writers: {type(self).__name__} combines {wanted or 'two or more'} writers; "
                f"got {', '.join(writers)}. Name them in the rule's order."
            )
        return Seats(tuple(writers))

    @abstractmethod
    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        """The numbers before anything is learned."""

    @abstractmethod
    def combine(
        self, numbers: Numbers, context_nll_K: Tensor | None = None
    ) -> Combine | StateCombine:
        """How the writers combine at an episode, given the numbers."""

    def learned_by(
        self, numbers: Numbers, context_nll_K: Tensor | None = None
    ) -> Combine | StateCombine:
        """What stands in for `combine` while learning, where that has no gradient."""
        return self.combine(numbers, context_nll_K)

    def shares(self, numbers: Numbers, states_NH: Tensor) -> Tensor | None:
        """How large a share of the tokens each writer is asked for: [K]; None where all are."""
        return None

    def penalty(self, numbers: Numbers, states_NH: Tensor) -> Tensor | None:
        """What writing so costs beside the likelihood, in nats a token; None for nothing."""
        return None


@dataclass(frozen=True)
class Product(FusionRule):
    """Product of experts. Empty `weights` start at equal shares.

    With `sum_to_one`, weights stay shares, as those of objectives do (multi-objective decoding).
    """

    weights: tuple[float, ...] = ()
    sum_to_one: bool = False

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        weights = _weights(self.weights, sizes.writers)
        return {"log_shares": _log_shares(weights)} if self.sum_to_one else {"weights": weights}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> ProductOfExperts:
        return ProductOfExperts(
            numbers["log_shares"].softmax(0) if self.sum_to_one else numbers["weights"]
        )


@dataclass(frozen=True)
class Mixture(FusionRule):
    """Mixture of experts. Empty `weights` start at equal shares."""

    weights: tuple[float, ...] = ()

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        return {"log_shares": _log_shares(_weights(self.weights, sizes.writers))}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> LinearMixture:
        return LinearMixture(numbers["log_shares"].softmax(0))


@dataclass(frozen=True)
class ProxyTuning(FusionRule):
    """Base + α (expert − anti-expert): proxy tuning, and DExperts."""

    num_writers: ClassVar[int | None] = 3
    alpha: float = 1.0

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        return {"alpha": torch.tensor(self.alpha)}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> Contrast:
        return Contrast(numbers["alpha"])


@dataclass(frozen=True)
class Contrastive(FusionRule):
    """An expert against an amateur, among the tokens that the expert finds `plausible`."""

    num_writers: ClassVar[int | None] = 2
    alpha: float = 0.5
    plausible: Annotated[float, Field(gt=0, le=1)] = 0.1

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        return {"alpha": torch.tensor(self.alpha)}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> PlausibleContrast:
        return PlausibleContrast(numbers["alpha"], self.plausible)


@dataclass(frozen=True)
class WithAndWithoutContext(FusionRule):
    """Context-aware decoding: one writer who has read the context, against itself who has not."""

    num_writers: ClassVar[int | None] = 1
    alpha: float = 0.5

    def seats(self, writers: Sequence[str]) -> Seats:
        (writer,) = super().seats(writers).writers
        return Seats((writer, writer), without_context=(1,))

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        return {"alpha": torch.tensor(self.alpha)}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> ContextAware:
        return ContextAware(numbers["alpha"])


@dataclass(frozen=True)
class Adaptive(FusionRule):
    """A product whose weights follow from each episode's context: whom it surprises least weighs
    most, wᵢ ∝ exp(−lossᵢ(x) / τ). Never from the chapter.

    Source: PackLLM-sim, Mavromatis et al. 2024, arXiv 2404.11531.
    """

    reads_context: ClassVar[bool] = True
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def start(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        return {"log_temperature": torch.tensor(self.temperature).log()}

    def combine(self, numbers: Numbers, context_nll_K: Tensor | None = None) -> ProductOfExperts:
        assert context_nll_K is not None
        return ProductOfExperts((-context_nll_K / numbers["log_temperature"].exp()).softmax(0))


def _weights(given: Sequence[float], num_writers: int) -> Tensor:
    if given and len(given) != num_writers:
        raise ValueError(
            f"env.rule.weights: {len(given)} weights for {num_writers} writers; "
            "give one for each, or none for equal shares."
        )
    return torch.tensor(given) if given else torch.full((num_writers,), 1 / num_writers)


def _log_shares(weights: Tensor) -> Tensor:
    if weights.min() <= 0:
        raise ValueError(
            f"env.rule.weights: shares are above 0; got {weights.tolist()}. "
            "Leave a writer without a share out of env.writers."
        )
    return (weights / weights.sum()).log()
