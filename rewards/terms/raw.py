"""The improvement as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.types import Measured


@dataclass(frozen=True)
class Raw:
    """I, the improvement in per cent; a plan that harms is worth less than none.

    Source: Gurung & Lapata 2025, arXiv 2503.22828, eq. 1.
    """

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [measured.improvement for measured in group]
