"""A price on long plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from rewards.types import Measured


@dataclass(frozen=True)
class Length:
    """0 up to `free_tokens`, falling in a straight line to −1 at `limit_tokens`, and −1 from there.

    In tokens of the plan as the generator reads it, heading included.
    Source: the soft overlong punishment of Yu et al. 2025 (DAPO, arXiv 2503.14476), there of the
    whole answer.
    """

    free_tokens: Annotated[int, Field(ge=0)] = 256
    """Plans up to here cost nothing."""
    limit_tokens: Annotated[int, Field(gt=0)] = 512
    """Plans from here on cost 1."""

    is_exact: ClassVar = True

    def __post_init__(self) -> None:
        if self.limit_tokens <= self.free_tokens:
            raise ValueError(
                f"limit_tokens must exceed free_tokens = {self.free_tokens}; "
                f"got {self.limit_tokens}. Raise it."
            )

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        span = self.limit_tokens - self.free_tokens
        return [-min(1.0, max(0.0, (m.num_plan_tokens - self.free_tokens) / span)) for m in group]
