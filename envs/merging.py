"""Merging: the weights of several writers become one writer, which then writes every chapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from envs.ensemble import Ensemble
from envs.types import GENERATOR

Method = Literal["linear", "slerp", "task_arithmetic", "ties", "dare", "lora"]
Search = Literal["fixed", "lorahub", "swarm", "cma_es", "gradient"]

# Methods whose coefficients are shares of a whole: below zero they mean nothing.
SHARES = ("linear", "slerp", "ties")
# Those of them that divide by the sum: how large the coefficients are says nothing there.
DIVIDED = ("linear", "slerp")
# Methods that add to a base what each writer has learned since.
FROM_BASE = ("task_arithmetic", "ties", "dare", "lora")
MOST = 1.5


@dataclass(frozen=True)
class Merging(Ensemble):
    """One writer is made of several, with a coefficient for each; the coefficients are trained.

    Its writer costs what one writer costs: each chapter is read once. Finding the coefficients
    costs `budget` evaluations, once. It fails by interference: what two writers have learned at the
    same weights cancels out, so that the merge may be worse than either.
    """

    learner: ClassVar[str] = "train.ensembles.merging"

    method: Method = "task_arithmetic"
    base: str = GENERATOR
    """The writer that the others come from: what they have learned is counted from it."""
    coefficients: Search = "fixed"
    """Taken as they are, searched for without gradients, or learned by gradient."""
    start: tuple[float, ...] = ()
    """One coefficient per writer, to take or to start from; empty for 1 / number of writers."""
    per: Literal["model", "layer", "tensor"] = "model"
    """What has coefficients of its own."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Of TIES: the share of a writer's changes, the largest, that is kept in each tensor."""
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of DARE: the share of a writer's changes that is dropped at random."""
    rank: Annotated[int, Field(gt=0)] | None = 16
    """Of LoRA: how many directions of a writer's change in each layer are kept; empty for all."""
    budget: Annotated[int, Field(gt=0)] = 40
    """Merges that may be tried, on training and validation books together; a step of the gradient
    counts as one."""
    finalists: Annotated[int, Field(gt=0)] = 3
    """How many of a search's best, beside its start, are compared on validation books."""
    num_episodes: Annotated[int, Field(gt=0)] = 32
    """Training episodes that a search looks at, and validation episodes that decide."""
    batch_size: Annotated[int, Field(gt=0)] = 16
    """Training episodes in one step of the gradient."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    """Of the gradient's steps (Adam)."""
    check_every: Annotated[int, Field(gt=0)] = 5
    """Steps of the gradient between two looks at validation books."""

    def __post_init__(self) -> None:
        if self.writers:
            self.check_writers(self.writers)
        if self.is_shares and any(value < 0 for value in self.start):
            raise ValueError(
                f"env.start: {self.method} takes shares, none below 0; got {self.start}"
            )
        if self.method in DIVIDED and self.coefficients == "lorahub":
            raise ValueError(
                "env.coefficients: lorahub sets out from the base and pays for how large its "
                f"coefficients are, but {self.method} divides them by their sum; choose cma_es or "
                "swarm, or env.method=task_arithmetic"
            )
        if self.method in DIVIDED and self.start and not sum(self.start):
            raise ValueError("env.start: shares add up to 0; give at least one writer more")
        if any(abs(value) > MOST for value in self.start) and self.coefficients != "fixed":
            raise ValueError(f"env.start: searched from within ±{MOST}; got {self.start}")
        if self.budget < self.least_budget:
            raise ValueError(
                f"env.budget: {self.budget} merges leave nothing to search with beside the start "
                f"and what is compared with it; raise it to {self.least_budget} or more"
            )

    def check_writers(self, writers: tuple[str, ...]) -> None:
        """Refuses writers that this method cannot merge, or that do not go with the start.

        Raises:
            ValueError: they are too few or too many, one stands twice, or the base is among those
                that are counted from it.
        """
        listed = ", ".join(writers) or "none"
        if not writers or len(set(writers)) < len(writers):
            raise ValueError(f"env.writers: each is named once, and one at least; got {listed}")
        if self.method == "slerp" and len(writers) != 2:
            raise ValueError(f"env.writers: slerp goes from one writer to one other; got {listed}")
        if self.method in FROM_BASE and self.base in writers:
            raise ValueError(
                f"env.writers: {self.method} adds what writers have learned since {self.base!r}, "
                "which has learned nothing since itself; leave it out, or name another env.base"
            )
        if self.start and len(self.start) != len(writers):
            raise ValueError(
                f"env.start: {len(self.start)} coefficients for {len(writers)} writers ({listed}); "
                "give one for each"
            )

    @property
    def least_budget(self) -> int:
        """Merges without which nothing is found: the start, what is looked at on training books,
        and what is compared on validation books.
        """
        if self.coefficients == "fixed":
            return 0
        return 3 if self.coefficients == "gradient" else self.finalists + 2

    @property
    def is_shares(self) -> bool:
        return self.method in SHARES

    @property
    def bounds(self) -> tuple[float, float]:
        """Within which a search or the gradient moves each coefficient."""
        return (0.0 if self.is_shares else -MOST), MOST
