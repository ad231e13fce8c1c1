"""What a result was measured on, without anything that names the machine or its owner."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "trl")


def describe_machine(device: torch.device) -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "os": f"{_os_name()} ({platform.system()} {platform.release()}, {platform.machine()})",
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "threads": torch.get_num_threads(),
        # Of other work; well above 0 means that the seconds below are too many.
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor()


def _usable_cores() -> int | None:
    """Those that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
