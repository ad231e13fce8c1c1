"""Where the processes of a job meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.job import Job
from launch.jobs.nodes import Node, meet, read_job

LISTENING = "0A"


def listened_on(port: int) -> list[str]:
    """The addresses, in hexadecimal, at which somebody of this machine listens on a port."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, hexadecimal = local.partition(":")
            if state == LISTENING and int(hexadecimal, 16) == port:
                found.append(address)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_the_processes_of_one_node_meet_on_loopback_alone(make_job: Callable[..., Job]) -> None:
    job = make_job(processes_per_node=2)
    job.folder.attempt_dir("a").mkdir(parents=True)
    point = meet(job, Node(0, 1, "a"))
    assert point is not None
    # 127.0.0.1, its last byte first.
    assert listened_on(point.port) == ["0100007F"]


def test_another_number_of_nodes_than_was_asked_for_is_refused(
    make_job: Callable[..., Job],
) -> None:
    with pytest.raises(ValueError, match=r"hardware.nodes: 2 are asked for, .* started 3"):
        meet(make_job(nodes=2), Node(0, 3, "a"))


def test_a_record_that_is_not_seen_is_another_matter_than_one_that_is_damaged(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    elsewhere = "every node has to see the run's folder"
    for spoil, says, is_unseen in (
        (lambda path: path.write_text("{"), "job.json: is damaged; launch the run again", False),
        (lambda path: path.unlink(), "was not launched as a job", True),
    ):
        spoil(job.folder.record_path)
        with pytest.raises(SystemExit) as end:
            read_job(job.run)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and says in line and (elsewhere in line) == is_unseen
