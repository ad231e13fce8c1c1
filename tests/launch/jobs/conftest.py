"""A job in a run folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.jobs.job import Job


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Makes the record of a job of one process; `fields` are those that differ."""

    def make(**fields: Any) -> Job:
        job = {
            "run": str(tmp_path / "run"),
            "backend": "local",
            "submission": "first",
            "arguments": ("books", "--help"),
            "nodes": 1,
            "processes_per_node": 1,
            "python": sys.executable,
            "max_restarts": 2,
            "hang_after_s": 60.0,
            "rendezvous_timeout_s": 5.0,
            "submitted_at": "2026-01-01T00:00:00+00:00",
            **fields,
        }
        made = Job(**job)
        made.folder.write(made)
        return made

    return make
