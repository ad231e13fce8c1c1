"""LoRA experts: one writer with what several have learned, mixed anew for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from envs.ensemble import Ensemble
from envs.types import GENERATOR


@dataclass(frozen=True)
class LoraExperts(Ensemble):
    """The base with a gate in every linear layer, which weighs frozen experts token by token.

    The experts are low-rank factors of what each writer has learned since the base; only the gates
    are trained. It reads each chapter once, at little more than the base's cost. It fails where the
    gates learn what marks the training books and not what a writer is good at, and by what low
    rank leaves out; what writers have learned outside of linear layers is never part of it.
    """

    learner: ClassVar[str] = "train.ensembles.lora_experts"

    base: str = GENERATOR
    """The writer that the others come from, which is no expert itself."""
    rank: Annotated[int, Field(gt=0)] | None = 16
    """Directions of a writer's change in each layer that are kept; empty for all."""
    steps: Annotated[int, Field(gt=0)] = 40
    """Optimizer steps of the gates."""
    batch_size: Annotated[int, Field(gt=0)] = 16
    """Training episodes in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Of AdamW."""
    check_every: Annotated[int, Field(gt=0)] = 10
    """Steps between two looks at validation books; the best of them is kept."""
    num_episodes: Annotated[int, Field(gt=0)] = 32
    """Validation episodes that are looked at."""

    def __post_init__(self) -> None:
        if self.writers:
            self.check_writers(self.writers)

    def check_writers(self, writers: tuple[str, ...]) -> None:
        """Refuses writers that cannot be experts on the base.

        Raises:
            ValueError: there are fewer than two, one stands twice, or the base is one of them.
        """
        listed = ", ".join(writers) or "none"
        if len(writers) < 2 or len(set(writers)) < len(writers):
            raise ValueError(f"env.writers: a gate needs two experts or more; got {listed}")
        if self.base in writers:
            raise ValueError(
                f"env.writers: {self.base!r} is what the experts are on; leave it out, or name "
                "another env.base"
            )
