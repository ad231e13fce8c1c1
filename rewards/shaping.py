"""Shapings: from the improvement in per cent to the number that the policy maximises."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Shaping(Protocol):
    def __call__(self, improvement: float) -> float: ...


@dataclass(frozen=True)
class Raw:
    """The improvement itself, in per cent."""

    def __call__(self, improvement: float) -> float:
        return improvement


@dataclass(frozen=True)
class Clipped:
    """max(0, improvement), in per cent."""

    def __call__(self, improvement: float) -> float:
        return max(0.0, improvement)


@dataclass(frozen=True)
class Tiers:
    """A step function of the improvement; `values[i]` is paid from `thresholds[i]` on, else 0.

    The defaults are the published tiers. Source: Gurung & Lapata 2025, arXiv 2503.22828.
    """

    thresholds: Sequence[float] = (0.05, 1.0, 2.0)
    """Improvement in per cent at which each tier begins."""
    values: Sequence[float] = (0.5, 0.9, 1.0)
    """Reward of each tier."""

    def __post_init__(self) -> None:
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(
                f"reward.shaping.thresholds must rise; got {list(self.thresholds)}. "
                "Put them in increasing order."
            )
        if len(self.values) != len(self.thresholds):
            raise ValueError(
                f"reward.shaping.values must have one value per threshold; got {len(self.values)} "
                f"for {len(self.thresholds)}."
            )

    def __call__(self, improvement: float) -> float:
        tier = bisect_right(self.thresholds, improvement)
        return self.values[tier - 1] if tier else 0.0


def first_threshold(shaping: Shaping) -> float | None:
    """The improvement, in per cent, from which a stepped shaping pays; None where it has no steps.

    A shaping has steps if it has `thresholds`.
    """
    return min(getattr(shaping, "thresholds", ()), default=None)
