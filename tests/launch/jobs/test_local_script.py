"""The script of a job on this machine: when it starts again, and when it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.job import Job
from launch.jobs.local import LocalBackend
from launch.jobs.settings import LocalSettings

# Stands in for the interpreter: counts its nodes, and says as verdict what it is told to.
INTERPRETER = """\
#!/bin/sh
case "$3" in
launch.jobs.node) echo started >> starts ;;
launch.jobs.verdict) {verdict} ;;
esac
"""


@pytest.fixture
def play(
    make_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[int, int]]:
    """Runs the script with a verdict: its status, and how often it started the node."""
    monkeypatch.chdir(tmp_path)

    def run(verdict: str) -> tuple[int, int]:
        interpreter = tmp_path / "interpreter"
        interpreter.write_text(INTERPRETER.format(verdict=verdict))
        interpreter.chmod(0o755)
        job = make_job(python=str(interpreter))
        job.script_path.write_text(LocalBackend().render(job, LocalSettings("local")))
        done = subprocess.run(["bash", job.script_path], check=False, timeout=60)
        return done.returncode, len((tmp_path / "starts").read_text().splitlines())

    return run


@pytest.mark.parametrize("status", [0, 1, 2, 3, 75, 127, 130])
def test_only_a_crash_that_was_found_is_started_again(
    play: Callable[[str], tuple[int, int]], status: int
) -> None:
    assert play(f"exit {status}") == (status, 1)


def test_a_crash_is_started_again_until_the_verdict_is_another(
    play: Callable[[str], tuple[int, int]],
) -> None:
    assert play("[ $(wc -l < starts) -eq 3 ] && exit 2; exit 70") == (2, 3)


def test_a_signal_between_two_attempts_is_not_forgotten(
    play: Callable[[str], tuple[int, int]],
) -> None:
    assert play("kill -TERM $PPID; exit 70") == (75, 1)


def test_a_job_between_two_attempts_runs_as_long_as_its_script(
    make_job: Callable[..., Job],
) -> None:
    job = make_job()
    job.script_path.write_text("echo begun; read line\n")
    command, pipe = ["bash", str(job.script_path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as script:
        assert script.stdout is not None and script.stdout.readline() == b"begun\n"
        job = job.with_id(str(script.pid))
        assert LocalBackend().state(job) == "RUNNING"
    assert LocalBackend().state(job) is None
