"""Which node of a job this is, as its scheduler says, and where its processes meet.

The first node opens the store through which the processes find each other, on whatever port is
free, and writes host and port into the run's folder, which all nodes share. Where the scheduler
gives an address of its own (MASTER_ADDR, MASTER_PORT), that is taken.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from launch.cli import EXIT_USER_ERROR
from launch.explain import explain
from launch.jobs.job import Job, JobFolder
from train.files import write_json

_LOOPBACK = "127.0.0.1"


def read_job(run: str) -> Job:
    """The job that this is a part of.

    Raises:
        SystemExit: its record cannot be read here, which is said in one line.
    """
    try:
        return JobFolder(Path(run)).read()
    except (OSError, ValueError) as error:
        line = explain(error)
        if isinstance(error, FileNotFoundError):
            line += "; every node has to see the run's folder"
        print(f"nextchapter launch: {line}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from error


@dataclass(frozen=True)
class Node:
    """One node's place in an attempt."""

    rank: int
    count: int
    attempt: str

    @classmethod
    def of_environment(cls, job: Job) -> Node:
        rank = int(os.environ.get("SLURM_NODEID") or os.environ.get("NEXTCHAPTER_NODE") or 0)
        count = int(os.environ.get("SLURM_STEP_NUM_NODES") or job.nodes)
        return cls(rank, count, os.environ["NEXTCHAPTER_ATTEMPT"])


@dataclass(frozen=True)
class MeetingPoint:
    """Where the processes of an attempt find each other; it lasts as long as the first node keeps
    `store`, a TCPStore of torch."""

    host: str
    port: int
    store: object = None


def meet(job: Job, node: Node) -> MeetingPoint | None:
    """The meeting point; None where there is but one process.

    Raises:
        ValueError: the port is taken, or the first node did not say in time where it is, or there
            are more or fewer nodes than were asked for.
    """
    if node.count != job.nodes:
        raise ValueError(
            f"hardware.nodes: {job.nodes} are asked for, and the scheduler started {node.count}"
        )
    if job.num_processes == 1:
        return None
    given = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    path = job.folder.attempt_dir(node.attempt) / "meeting_point.json"
    if node.rank > 0:
        if given[0] and given[1]:
            return MeetingPoint(given[0], int(given[1]))
        return _told(path, job.rendezvous_timeout_s)
    host = given[0] or (_LOOPBACK if node.count == 1 else socket.gethostname())
    point = _open(host, int(given[1] or 0))
    write_json(path, {"host": point.host, "port": point.port})
    return point


def _open(host: str, port: int) -> MeetingPoint:
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    try:
        if host == _LOOPBACK:
            # By itself the store listens on all interfaces, whatever it is told of its host.
            listener = socket.create_server((host, port))
            port = listener.getsockname()[1]
            store = TCPStore(
                host,
                port,
                is_master=True,
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )
        else:
            store = TCPStore(host, port, is_master=True, wait_for_workers=False)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{host}:{port}: cannot be listened on ({str(error).splitlines()[0][:200]}); give "
            "another MASTER_PORT, or none, and a free one is taken"
        ) from error
    return MeetingPoint(host, store.port, store)


def _told(path: Path, timeout_s: float) -> MeetingPoint:
    give_up = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > give_up:
            raise ValueError(
                f"{path}: not written by the first node within {timeout_s:g} s; see that all nodes "
                "share this folder, or raise launch.rendezvous_timeout_s for a slow disk"
            )
        # A folder that was listed once may be answered from a cache of the network disk.
        os.listdir(path.parent.parent)
        time.sleep(0.2)
    said = json.loads(path.read_text(encoding="utf-8"))
    return MeetingPoint(said["host"], said["port"])
