"""A job whose disk is full ends, with one line where there is room for one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.attempts import verdict
from launch.jobs.job import Job

pytestmark = pytest.mark.slow


def with_files_of(
    num_kb: int, module: str, job: Job, log: Path | None = None
) -> tuple[int, list[str]]:
    """Status and lines of a part of the job of which no file can grow beyond so much.

    With `log` the lines go there, where no room is left either.
    """
    to_log = "" if log is None else f'exec 2>"{log}"; '
    command = ["bash", "-c", f'{to_log}ulimit -f {num_kb}; exec "$@"', "bash"]
    command += [sys.executable, "-P", "-m", f"launch.jobs.{module}", job.run]
    environment = {**os.environ, "NEXTCHAPTER_ATTEMPT": "a"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stderr.strip().splitlines()


def test_a_process_whose_error_a_full_disk_cuts_short_ends_its_node(
    make_job: Callable[..., Job],
) -> None:
    # The log has no room for the line with this name, and the error's file none for that error.
    job = make_job(arguments=("books", "far/" * 300))
    status, lines = with_files_of(1, "node", job)
    assert status == 1 and not any("Traceback" in line for line in lines)
    _, failure = verdict(job, "a")
    assert failure is not None
    assert failure.message == "a process failed, and its error was cut short, as by a full disk"


def test_a_disk_that_takes_nothing_is_one_line_and_the_job_ends(
    make_job: Callable[..., Job],
) -> None:
    job = make_job()
    status, (line,) = with_files_of(0, "node", job)
    assert status == 2 and "attempts.jsonl: file too large; make room there, then try" in line
    status, (line,) = with_files_of(0, "verdict", job)
    assert status == 2 and "file too large; make room there, then try again" in line


def test_a_disk_that_takes_not_even_the_line_leaves_the_status(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    for module in ("node", "verdict"):
        assert with_files_of(0, module, make_job(), tmp_path / "log") == (2, [])
        assert (tmp_path / "log").read_text() == ""
