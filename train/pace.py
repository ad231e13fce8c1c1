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
    def shown(self, progress: ProgressDisplay, planned: Mapping[str, int]) -> Iterator[None]:
        """A stage of so many steps of each kind; at its end it tells what had been done before."""
        left = self._time_left = TimeLeft(planned, free=(UNCHANGED,))
        with progress.stage("evaluate", left.planned) as advance:
            self._advance = advance
            yield
        if left.done_before:
            progress.say(f"evaluate: {left.done_before} of {left.planned} had been done before")

    def did(self, kind: str, steps: int, seconds: float | None, note: str) -> None:
        """`seconds` is None for what an earlier evaluation did."""
        self._time_left.did(kind, steps, seconds)
        self._advance(steps, note.replace("_", " "), self._time_left.seconds)
