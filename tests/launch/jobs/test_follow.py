"""What a user is told of a job of which no node came to its start."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from launch.cli import main
from launch.jobs import attempts
from launch.jobs.job import Job
from train.files import write_text

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
    assert line.endswith(f"the script said nothing; see launch.setup in {job.script_path}")


def test_an_earlier_submission_does_not_speak_for_the_one_that_came_to_nothing(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = make_job(id=NOBODY)
    attempts.begin(earlier, "first.0")
    logs = earlier.folder.attempt_dir("first.0") / "logs" / "node-0_x" / "attempt_0" / "0"
    logs.mkdir(parents=True)
    (logs / "stdout.log").write_text("step 1\n")
    job = make_job(id=NOBODY, submission="second")
    job.folder.scheduler_log_path.write_text("module: cuda/13 not found\n")
    assert main(["launch", "logs", job.run]) == 0
    assert capsys.readouterr().out == "module: cuda/13 not found\n"
    assert main(["launch", "logs", job.run, "--attempt", "first.0"]) == 0


def test_an_attempt_that_was_counted_without_a_node_shows_what_the_script_said(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(id=NOBODY)
    # As the verdict does where the nodes did not come to it.
    attempts.begin(job, "first.0")
    job.folder.scheduler_log_path.write_text("torch: no such module\n")
    assert main(["launch", "status", job.run]) == 0
    assert f"crashed; no node said why, nextchapter launch logs {job.run} may" in (
        capsys.readouterr().out
    )
    assert main(["launch", "logs", job.run]) == 0
    assert capsys.readouterr().out == "torch: no such module\n"
    assert main(["launch", "logs", job.run, "--rank", "3"]) == 2
    assert "--rank: no log of rank 3 in attempt first.0" in capsys.readouterr().err


def test_a_job_in_front_that_ended_before_its_nodes_spoke_on_the_terminal(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(id=NOBODY)
    assert main(["launch", "logs", job.run]) == 2
    assert "is on the terminal that it was launched from" in capsys.readouterr().err


def test_a_job_that_was_cancelled_in_the_queue_is_said_so(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(id=NOBODY)
    write_text(job.folder.cancelled_path, job.submission)
    assert main(["launch", "status", job.run]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "cancelled before any node started"
    assert main(["launch", "logs", job.run]) == 2
    assert "cancelled before any node started; nextchapter" in capsys.readouterr().err


def test_a_pod_shows_all_that_its_script_said(
    make_job: Callable[..., Job],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = tmp_path / "kubectl"
    program.write_text(
        '#!/bin/sh\ncase "$1" in get) ;; logs) echo "$@"; echo "no module torch" ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    job = make_job(backend="kubernetes", place={"namespace": "ml"}, id="job-1")
    assert main(["launch", "logs", job.run]) == 0
    asked, said = capsys.readouterr().out.splitlines()
    assert {"--namespace=ml", "--tail=-1"} < set(asked.split()) and "=job-1 " in asked
    assert said == "no module torch"


class Dashboard(BaseHTTPRequestHandler):
    """As much of Ray's dashboard as a client asks for; it knows the log of job-1 alone."""

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self.answer(200, {"version": "4", "ray_version": "2.60.0", "ray_commit": ""})
        elif self.path == "/api/jobs/job-1/logs":
            self.answer(200, {"logs": "no module torch\n"})
        else:
            self.answer(404, {"error": "no such job"})

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_ray_shows_what_the_script_said_or_that_it_has_forgotten_the_job(
    make_job: Callable[..., Job],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray", reason="needs nextchapter[ray]")
    # The client is a part of the package: no program is looked for.
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = {"address": f"http://127.0.0.1:{server.server_port}"}
        job = make_job(backend="ray", place=place, id="job-1")
        known, shown = main(["launch", "logs", job.run]), capsys.readouterr()
        job = make_job(backend="ray", place=place, id="job-2")
        forgotten, refused = main(["launch", "logs", job.run]), capsys.readouterr()
        server.shutdown()
        thread.join()
    assert (known, shown.out) == (0, "no module torch\n")
    assert forgotten == 2 and "launch: Ray has no log of job-2 (Request failed" in refused.err
