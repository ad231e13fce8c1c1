"""How long work of several kinds will still take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class TimeLeft:
    """From how long each kind of step took so far; steps that an earlier run did count for nothing.

    Answers of an agent take longer than scores: a mean over both would promise too much while the
    scores are done, and too little while the answers are.
    """

    def __init__(self, planned: Mapping[str, int]) -> None:
        self.to_do = Counter(planned)
        self._done: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}

    def did(self, kind: str, steps: int, seconds: float | None) -> None:
        """`seconds` is None for steps that an earlier run did."""
        self.to_do[kind] -= steps
        if seconds is not None:
            self._done[kind] += steps
            self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    @property
    def total(self) -> int:
        """All steps that are still to be done."""
        return sum(self.to_do.values())

    @property
    def seconds(self) -> float | None:
        """None where a kind that is still to come has not been seen."""
        kinds = [kind for kind, steps in self.to_do.items() if steps > 0]
        if any(not self._done[kind] for kind in kinds):
            return None
        return sum(self.to_do[kind] * self._seconds[kind] / self._done[kind] for kind in kinds)


def duration(seconds: float) -> str:
    """Whole seconds, minutes or hours: `40 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
