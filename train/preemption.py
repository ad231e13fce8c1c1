"""Signals that ask a run to leave its machine: SIGTERM, and SIGUSR1 as Slurm sends it ahead."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(BaseException):
    """A signal ended the run before its end; going on later loses nothing that was saved.

    Like KeyboardInterrupt, it is no error, and nobody who handles errors should catch it.
    """


class StopSignals:
    """What to do when one of the signals comes: stop at once, or within `deferred` when it suits.

    `received` is the name of the signal, once there was one.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._is_deferred = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listens to the signals while the block runs. Only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {s: signal.signal(s, self._handle) for s in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block a signal is only noted in `received`; the block's end heeds it."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self.received is not None:
            raise Preempted(f"stopped by {self.received}, with a checkpoint")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        if not self._is_deferred:
            raise Preempted(f"stopped by {self.received}")
