"""How often a job is started again, and which of many failures has the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.attempts import Failure, NodeEnd, begin, end, read, verdict
from launch.jobs.job import Job
from launch.jobs.verdict import main as ask_verdict


def failure(rank: int, status: int, time_s: float, message: str = "") -> Failure:
    return Failure(rank, status, message or f"rank {rank} ended with {status}", "log", time_s)


def test_restarts_in_a_row_without_a_newer_checkpoint_are_bounded(
    make_job: Callable[..., Job],
) -> None:
    job = make_job(max_restarts=2)
    for attempt in ("a", "b", "c"):
        begin(job, attempt)
    with pytest.raises(ValueError, match=r"max_restarts: 2 restarts in a row did not reach any"):
        begin(job, "d")
    # A checkpoint is progress, and the count begins again.
    (Path(job.run) / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    for attempt in ("e", "f", "g"):
        begin(job, attempt)
    with pytest.raises(ValueError, match="did not reach a checkpoint after step 5"):
        begin(job, "h")
    assert [line["attempt"] for line in read(job)] == ["a", "b", "c", "e", "f", "g"]


def test_a_job_that_is_launched_anew_has_all_its_restarts(make_job: Callable[..., Job]) -> None:
    for submission in ("first", "second"):
        job = make_job(max_restarts=0, submission=submission)
        begin(job, f"{submission}.0")
        with pytest.raises(ValueError, match="max_restarts"):
            begin(job, f"{submission}.1")


def test_an_attempt_whose_record_was_cut_short_is_left_out(make_job: Callable[..., Job]) -> None:
    job = make_job()
    begin(job, "a")
    with job.folder.attempts_path.open("a") as file:
        file.write('{"attempt": "b", "subm')
    assert [line["attempt"] for line in read(job)] == ["a"]


def ended(job: Job, *ends: NodeEnd) -> tuple[int, str | None]:
    job.folder.attempt_dir("a").mkdir(parents=True)
    for node_end in ends:
        end(job, "a", node_end)
    status, first = verdict(job, "a")
    return status, first.message if first else None


def test_the_first_failure_has_the_cause_and_not_those_that_were_asked_to_leave(
    make_job: Callable[..., Job],
) -> None:
    job = make_job(nodes=2, processes_per_node=2)
    crashed = NodeEnd(1, 1, (failure(3, 75, 11.0), failure(2, 1, 10.0, "KeyError: 'x'")))
    left = NodeEnd(0, 75, (failure(0, 75, 12.0), failure(1, -15, 12.0)))
    assert ended(job, left, crashed) == (1, "KeyError: 'x'")


def test_a_mistake_decides_over_what_it_broke(make_job: Callable[..., Job]) -> None:
    job = make_job(nodes=2)
    refused = NodeEnd(0, 2, (failure(0, 2, 20.0, "seed: is negative"),))
    assert ended(job, refused, NodeEnd(1, 1, (failure(1, 1, 19.0),))) == (2, "seed: is negative")


def test_nodes_that_were_asked_to_leave_make_a_preemption(make_job: Callable[..., Job]) -> None:
    job = make_job(nodes=2)
    saved = NodeEnd(0, 75, (failure(0, 75, 5.0, "stopped by SIGTERM"),))
    assert ended(job, saved, NodeEnd(1, 75, (failure(1, -15, 4.0),)))[0] == 75


def test_a_job_that_its_user_cancelled_is_not_queued_again(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    monkeypatch.setenv("NEXTCHAPTER_ATTEMPT", "a")
    assert ended(job, NodeEnd(0, 75, (failure(0, 75, 5.0, "stopped by SIGTERM"),)))[0] == 75
    assert ask_verdict(job.run) == 75
    job.folder.cancelled_path.write_text("an earlier submission")
    assert ask_verdict(job.run) == 75
    job.folder.cancelled_path.write_text(job.submission)
    assert ask_verdict(job.run) == 130


def test_crashes_before_the_first_note_are_bounded(
    make_job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = make_job(max_restarts=1)
    for attempt, status in (("a", 70), ("b", 70), ("c", 2)):
        monkeypatch.setenv("NEXTCHAPTER_ATTEMPT", attempt)
        assert ask_verdict(job.run) == status
    assert "launch.max_restarts: 1 restarts in a row" in capsys.readouterr().err
    assert [line["attempt"] for line in read(job)] == ["a", "b"]


def test_a_crash_that_its_nodes_noted_is_not_counted_twice(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    begin(job, "a")
    monkeypatch.setenv("NEXTCHAPTER_ATTEMPT", "a")
    assert ended(job, NodeEnd(0, 1, (failure(0, 1, 5.0),)))[0] == 1
    assert ask_verdict(job.run) == 70
    assert len(read(job)) == 1


def test_a_node_that_says_nothing_makes_a_crash_even_where_the_others_are_done(
    make_job: Callable[..., Job],
) -> None:
    assert ended(make_job(nodes=2), NodeEnd(0, 0)) == (1, None)
