"""What a user is told of a job of which no node came to its start."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from launch.cli import main
from launch.jobs.backend import backend_of
from launch.jobs.job import Job

# Larger than any number of a process.
NOBODY = str(2**30)


def test_the_words_of_the_script_are_shown_where_no_node_has_any(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(id=NOBODY)
    job.folder.scheduler_log_path.write_text("module: cuda/13 not found\n")
    assert main(["launch", "status", job.run]) == 0
    assert f"for why, nextchapter launch logs {job.run}" in capsys.readouterr().out
    assert main(["launch", "logs", job.run]) == 0
    assert capsys.readouterr().out == "module: cuda/13 not found\n"


def test_a_script_that_ended_without_a_word_is_one_line(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(id=NOBODY)
    job.folder.scheduler_log_path.touch()
    assert main(["launch", "logs", job.run]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "its log is empty" in line and "see launch.setup and launch.modules" in line


@pytest.mark.parametrize(
    ("backend", "place", "program"),
    [
        ("kubernetes", {"namespace": "ml"}, "kubectl"),
        ("ray", {"address": "http://127.0.0.1:1"}, "ray"),
    ],
)
def test_where_a_cluster_keeps_those_words_its_own_tool_is_asked(
    make_job: Callable[..., Job], backend: str, place: dict[str, str], program: str
) -> None:
    job = make_job(backend=backend, place=place, id="job-1")
    command = backend_of(backend).log_command(job)
    assert command[0] == program and "logs" in command
    assert any("job-1" in word for word in command)
    assert any(word.endswith(value) for value in place.values() for word in command)
