"""How long work of several kinds will still take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping


class TimeLeft:
    """From how long each kind of step took lately; steps that an earlier run did say nothing.

    Answers of an agent take longer than scores: a mean over both would promise too much while the
    scores are done, and too little while the answers are. Lately is the latter half of the steps of
    a kind, because chapters, plans and the load of the machine change. Steps of the kinds in `free`
    take no time. `done_before` counts what earlier runs did, of `planned` steps.
    """

    def __init__(self, planned: Mapping[str, int], free: Collection[str] = ()) -> None:
        self.to_do = Counter(planned)
        self.planned = self.total
        self.free = free
        self.done_before = 0
        self._done: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def did(self, kind: str, steps: int, seconds: float | None) -> None:
        """`seconds` is None for steps that an earlier run did."""
        self.to_do[kind] -= steps
        if seconds is None:
            self.done_before += steps
        else:
            self._done[kind].append((steps, seconds))

    @property
    def total(self) -> int:
        """All steps that are still to be done."""
        return sum(self.to_do.values())

    @property
    def seconds(self) -> float | None:
        """None where a kind that is still to come has not been seen."""
        kinds = [kind for kind, steps in self.to_do.items() if steps > 0 and kind not in self.free]
        if any(not self._done[kind] for kind in kinds):
            return None
        return sum(self.to_do[kind] * self._pace_s(kind) for kind in kinds)

    def _pace_s(self, kind: str) -> float:
        """Seconds for a step, over the latter half of those that were done."""
        half = sum(steps for steps, _ in self._done[kind]) / 2
        late_steps, late_s = 0, 0.0
        for steps, seconds in reversed(self._done[kind]):
            late_steps, late_s = late_steps + steps, late_s + seconds
            if late_steps >= half:
                break
        return late_s / late_steps


def duration(seconds: float) -> str:
    """Whole seconds, minutes or hours: `40 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
