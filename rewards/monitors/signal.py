"""Whether groups of attempts have anything to learn from."""

from __future__ import annotations

from collections.abc import Sequence


def share_without_signal(groups: Sequence[Sequence[float]], spread: float = 1e-9) -> float:
    """Share of the groups whose rewards are all alike: largest and smallest within `spread`."""
    return sum(max(group) - min(group) <= spread for group in groups) / len(groups)
