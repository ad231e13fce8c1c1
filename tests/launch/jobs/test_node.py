"""The processes of one node: their statuses, their last words and their bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.attempts import verdict
from launch.jobs.job import Job

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def play(job: Job, attempt: str = "a", **environment: str) -> int:
    environment = {**os.environ, "NEXTCHAPTER_ATTEMPT": attempt, **environment}
    environment = {k: v for k, v in environment.items() if not k.startswith("SLURM_")}
    command = [sys.executable, "-P", "-m", "launch.jobs.node", job.run]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_two_processes_that_end_well_are_done(make_job: Callable[..., Job]) -> None:
    job = make_job(processes_per_node=2)
    assert play(job) == 0
    assert verdict(job, "a") == (0, None)


def test_the_status_and_the_line_of_a_process_that_was_refused_are_those_of_the_node(
    make_job: Callable[..., Job],
) -> None:
    job = make_job(arguments=("books", "no_such.epub"))
    assert play(job) == 2
    status, failure = verdict(job, "a")
    assert status == 2 and failure is not None
    assert failure.message.startswith("nextchapter books: ")
    assert "no_such.epub" in failure.message and failure.rank == 0


def test_a_job_without_progress_is_refused_in_the_end(make_job: Callable[..., Job]) -> None:
    job = make_job(max_restarts=0)
    assert [play(job, attempt) for attempt in ("a", "b")] == [0, 2]
    _, failure = verdict(job, "b")
    assert failure is not None and "0 restarts in a row" in failure.message


def test_a_port_that_is_taken_is_one_line(make_job: Callable[..., Job]) -> None:
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    taken = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = make_job(processes_per_node=2)
    assert play(job, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(taken.port)) == 2
    _, failure = verdict(job, "a")
    assert failure is not None
    assert f"127.0.0.1:{taken.port}: cannot be listened on" in failure.message


def test_a_node_that_the_first_one_does_not_answer_says_so(make_job: Callable[..., Job]) -> None:
    job = make_job(nodes=2, rendezvous_timeout_s=0.5)
    assert play(job, NEXTCHAPTER_NODE="1") == 2
    _, failure = verdict(job, "a")
    assert failure is not None and "not written by the first node within 0.5 s" in failure.message


def test_a_node_that_does_not_see_the_runs_folder_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "NEXTCHAPTER_ATTEMPT": "a"}
    command = [sys.executable, "-P", "-m", "launch.jobs.node", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "job.json is missing" in line and "every node has to see the run's folder" in line
