"""Steps of the improvement."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rewards.types import Measured


@dataclass(frozen=True)
class Tiers:
    """A step function of I; `values[i]` is paid from `thresholds[i]` on, else 0.

    The defaults are the published tiers. Source: Gurung & Lapata 2025, arXiv 2503.22828.
    """

    thresholds: tuple[float, ...] = (0.05, 1.0, 2.0)
    """Improvement in per cent at which each tier begins."""
    values: tuple[float, ...] = (0.5, 0.9, 1.0)
    """What each tier pays."""

    def __post_init__(self) -> None:
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(
                f"thresholds must rise; got {list(self.thresholds)}. Put them in increasing order."
            )
        if len(self.values) != len(self.thresholds):
            raise ValueError(
                f"values must have one value per threshold; got {len(self.values)} "
                f"for {len(self.thresholds)}."
            )

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [self._tier(measured.improvement) for measured in group]

    def _tier(self, improvement: float) -> float:
        tier = bisect_right(self.thresholds, improvement)
        return self.values[tier - 1] if tier else 0.0
