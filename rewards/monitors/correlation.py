"""Whether two measurements go together within groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean


def correlation_within_groups(
    groups: Sequence[Sequence[tuple[float, float]]],
) -> float | None:
    """Pearson's correlation of two values over all members, each as its difference to the mean of
    its group: what differs from group to group does not count. In [-1, 1].

    None where one of the two does not vary within any group.
    """
    first: list[float] = []
    second: list[float] = []
    for group in groups:
        if group:
            means = fmean(a for a, _ in group), fmean(b for _, b in group)
            first += [a - means[0] for a, _ in group]
            second += [b - means[1] for _, b in group]
    spread = math.sqrt(math.fsum(a * a for a in first) * math.fsum(b * b for b in second))
    if spread == 0.0:
        return None
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / spread
