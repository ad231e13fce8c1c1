"""Tells a process that hangs from one that takes a slow step.

A thread of each process looks every few seconds where the main thread stands. A slow step moves:
it samples tokens, scores batches, goes from layer to layer. One that hangs stands at the same
instruction. A process in a collective stands still, too, while it waits for another one; so a run
hangs when *all* of its processes stand still, or no longer say anything.

Times are of monotonic clocks, each compared with itself alone: a clock that is set changes nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from train.files import write_json

SECONDS_BETWEEN_BEATS = 2.0


class Heartbeat(threading.Thread):
    """Writes into `path`, again and again: a count, for how long the main thread has stood still,
    and where. When its parent is gone it asks its own process to save and leave."""

    def __init__(self, path: Path, seconds_between_beats: float = SECONDS_BETWEEN_BEATS) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._path = path
        self._seconds_between_beats = seconds_between_beats
        self._main = threading.main_thread().ident
        self._parent = os.getppid()
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        number, position, moved_at = 0, (), time.monotonic()
        while not self._over.wait(self._seconds_between_beats):
            frame = sys._current_frames().get(self._main or 0)
            now, number = time.monotonic(), number + 1
            if (found := _position(frame)) != position:
                position, moved_at = found, now
            still_s = round(now - moved_at, 1)
            # A full disk is told by what wanted to save something, and not by this.
            with suppress(OSError):
                write_json(self._path, {"beat": number, "still_s": still_s, "at": _where(frame)})
            if os.getppid() != self._parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return


@dataclass
class HangWatch:
    """Reads the beats of all processes of an attempt; `hung` says where they stand, or None."""

    folder: Path
    num_processes: int
    hang_after_s: float
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def hung(self) -> str | None:
        now = time.monotonic()
        stands: list[tuple[float, str]] = []
        for rank in range(self.num_processes):
            beat = read_beat(beat_path(self.folder, rank))
            number, seen_at = self._seen.get(rank, (0, self._began))
            if beat is not None and beat["beat"] != number:
                number, seen_at = self._seen[rank] = beat["beat"], now
            # Since the last beat it may have moved; since it is silent it has not been seen to.
            still_s = (beat["still_s"] if beat else 0.0) + now - seen_at
            where = beat["at"] if beat else "its start"
            stands.append((still_s, f"rank {rank} at {where}"))
        shortest = min(still_s for still_s, _ in stands)
        if shortest < self.hang_after_s:
            return None
        shown = "; ".join(dict.fromkeys(where for _, where in stands[:4]))
        return f"no process has moved for {shortest:.0f} s (launch.hang_after_s): {shown}"


def beat_path(folder: Path, rank: int) -> Path:
    return folder / "beats" / f"rank-{rank:05d}.json"


def read_beat(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _position(frame: FrameType | None) -> tuple[Any, ...]:
    """The instruction that every function of the stack is at."""
    found = []
    while frame is not None:
        found.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _where(frame: FrameType | None) -> str:
    if frame is None:
        return "its end"
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} ({code.co_name})"
