"""The improvement without its negative part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.types import Measured


@dataclass(frozen=True)
class Clipped:
    """max(0, I), in per cent: a plan that harms costs no more than none.

    Source: Gurung & Lapata 2025, arXiv 2503.22828, before their tiers.
    """

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [max(0.0, measured.improvement) for measured in group]
