"""The steps of an evaluation as a stage that is shown, with the time that they will still take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from train.progress import Advance, ProgressDisplay, silent
from train.time_left import TimeLeft

ANSWERS, SCORES = "answers", "scores"
UNCHANGED = "unchanged"
"""Scores of empty plans: they are known to be 0 and take no time."""


class Steps:
    """Answers and scores, each at its own pace. Before `shown` they are counted and not shown."""

    def __init__(self) -> None:
        self._advance: Advance = silent
        self._time_left = TimeLeft({})

    @contextmanager
    def shown(
        self, progress: ProgressDisplay, planned: Mapping[str, int], title: str = "evaluate"
    ) -> Iterator[None]:
        """A stage of so many steps of each kind; at its end it tells how many had been done."""
        left = self._time_left = TimeLeft(planned, free=(UNCHANGED,))
        with progress.stage(title, left.planned) as advance:
            self._advance = advance
            yield
        if left.done_before:
            known = f"{left.done_before} of {left.planned}"
            progress.say(f"{title}: {known} were taken from the journal")

    def did(self, kind: str, steps: int, seconds: float | None, note: str) -> None:
        """`seconds` is None for what an earlier evaluation did."""
        self._time_left.did(kind, steps, seconds)
        self._advance(steps, note.replace("_", " "), self._time_left.seconds)
