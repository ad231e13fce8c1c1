"""Progress of the stages of a run: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from train import ranks
from train.time_left import TimeLeft, duration

Advance = Callable[..., None]
Did = Callable[[int, float | None], None]


class ProgressDisplay:
    """Shows stages, also one inside another, on one console (standard error by default).

    Where it is no terminal, a stage is a line at its start and end, and as long as it moves one
    line in `seconds_between_lines`. Of several processes only the main one shows anything.
    """

    def __init__(self, console: Console | None = None, seconds_between_lines: float = 10.0) -> None:
        self._console = console or Console(stderr=True, quiet=not ranks.is_main())
        self._seconds_between_lines = seconds_between_lines
        self._bars: Progress | None = None

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """A stage of `total` steps. It gives `advance(steps=1, note="", seconds_left=None)`.

        `note` is shown beside the bar: `advance(note="reward 0.4")`. Where steps take unequally
        long, `seconds_left` is shown in place of what their mean would promise.
        """
        started = time.perf_counter()
        outcome = "failed"
        on_terminal = self._console.is_terminal
        if not on_terminal:
            self.say(f"{title} ...")
        try:
            if on_terminal:
                with self._bar(title, total) as advance:
                    yield advance
            else:
                yield self._lines(title, total)
            outcome = "done"
        finally:
            self.say(f"{title}: {outcome} in {time.perf_counter() - started:.1f} s")

    @contextmanager
    def paced(self, title: str, total: int) -> Iterator[Did]:
        """A stage that is told how many seconds steps took: `did(steps, seconds)`.

        `seconds` is None for what an earlier run did, which says nothing of the time left.
        """
        left = TimeLeft({title: total})
        with self.stage(title, total) as advance:

            def did(steps: int, seconds: float | None) -> None:
                left.did(title, steps, seconds)
                advance(steps, None, left.seconds)

            yield did

    @contextmanager
    def waiting(self, title: str) -> Iterator[None]:
        """A bar for what takes a moment and may be refused: it leaves no line, whatever happens."""
        with self._bar(title, None) if self._console.is_terminal else nullcontext():
            yield

    def _lines(self, title: str, total: int | None) -> Advance:
        done, said_at = 0, time.perf_counter()

        def advance(
            steps: int = 1, note: str | None = None, seconds_left: float | None = None
        ) -> None:
            nonlocal done, said_at
            done += steps
            if time.perf_counter() - said_at >= self._seconds_between_lines:
                said_at = time.perf_counter()
                of_total = "" if total is None else f" of {total}"
                left = None if seconds_left is None else f"{duration(seconds_left)} left"
                self.say(", ".join(filter(None, (f"{title}: {done}{of_total}", note, left))))

        return advance

    @contextmanager
    def _bar(self, title: str, total: int | None) -> Iterator[Advance]:
        # A terminal holds one live display, so a stage inside another joins the outer one's.
        is_outermost = self._bars is None
        bars = self._bars or self._new_bars()
        self._bars = bars
        if is_outermost:
            bars.start()
        task = bars.add_task(title, total=total, note="", seconds_left=None)

        def advance(
            steps: int = 1, note: str | None = None, seconds_left: float | None = None
        ) -> None:
            bars.update(task, advance=steps, seconds_left=seconds_left)
            if note is not None:
                bars.update(task, note=note)

        try:
            yield advance
        finally:
            bars.remove_task(task)
            if is_outermost:
                bars.stop()
                self._bars = None

    def _new_bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _TimeLeftColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )

    def say(self, line: str) -> None:
        """A line for the reader, above any bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _TimeLeftColumn(TimeRemainingColumn):
    """What a stage says of the time left, or else what its pace so far promises."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        left = task.fields["seconds_left"]
        if left is None:
            return super().render(task)
        return Text(duration(left), style="progress.remaining")


def silent(steps: int = 1, note: str | None = None, seconds_left: float | None = None) -> None:
    """An `advance` that is shown nowhere."""
