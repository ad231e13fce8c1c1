"""How much memory a piece of work takes at its height, above what was there before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
# Written to `clear_refs`, it sets the largest resident size back to the present one.
RESET_PEAK = "5"


class PeakMemory(Protocol):
    """A meter; `method` says, for readers of the results, what it measures."""

    method: str

    def start(self) -> None: ...

    def peak_bytes(self) -> int | None:
        """The height since `start`, above the level there; None where it cannot be told."""
        ...


class CudaPeak:
    method = "torch.cuda.max_memory_allocated above what was allocated before"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) - self._before


class ResidentPeak:
    """The kernel's own count, so that what libraries allocate past torch is in it."""

    method = "largest resident set of the process (VmHWM) above the resident set before"

    def start(self) -> None:
        gc.collect()
        _return_freed_memory()
        CLEAR_REFS.write_text(RESET_PEAK)
        self._before = _status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        return max(0, _status_bytes("VmHWM") - self._before)


class NoPeak:
    method = "not measured: this system does not tell the largest resident set"

    def start(self) -> None: ...

    def peak_bytes(self) -> None:
        return None


def peak_memory(device: torch.device) -> PeakMemory:
    """The meter for this device and system."""
    if device.type == "cuda":
        return CudaPeak(device)
    try:
        ResidentPeak().start()
    except OSError:
        return NoPeak()
    return ResidentPeak()


def measured(meter: PeakMemory, work: Callable[[], object]) -> int | None:
    """What the work takes."""
    meter.start()
    work()
    return meter.peak_bytes()


def _return_freed_memory() -> None:
    """Or what the C library keeps of earlier work would be there for the next to use unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status_bytes(field: str) -> int:
    (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
