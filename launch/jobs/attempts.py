"""The attempts of a job: each start of it, by what the run had reached, and how each node ended.

What is needed to decide is written at the start of an attempt, since a node that vanishes writes
nothing at its end.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.cli import EXIT_OK, EXIT_PREEMPTED, EXIT_STOPPED, EXIT_USER_ERROR
from launch.jobs.job import Job
from train.files import append_line, write_json

EXIT_CRASHED = 1


@dataclass(frozen=True)
class Failure:
    """A process that failed, or a node with something to tell (`rank` is then -1)."""

    rank: int
    status: int
    message: str
    log: str
    time_s: float


@dataclass(frozen=True)
class NodeEnd:
    """How one node of an attempt ended."""

    node: int
    status: int
    failures: tuple[Failure, ...] = ()


def begin(job: Job, attempt: str) -> None:
    """Notes that an attempt begins.

    Raises:
        ValueError: it would be one more than `max_restarts` in a row without a newer checkpoint.
    """
    newest = newest_checkpoint(Path(job.run))
    in_a_row = 0
    for line in reversed(read(job)):
        if line["submission"] != job.submission or line["checkpoint"] != newest:
            break
        in_a_row += line["attempt"] != attempt
    if in_a_row > job.max_restarts:
        reached = "any checkpoint" if newest is None else f"a checkpoint after step {newest}"
        raise ValueError(
            f"launch.max_restarts: {job.max_restarts} restarts in a row did not reach {reached}; "
            f"see nextchapter launch logs {job.run}, then nextchapter launch train resume={job.run}"
        )
    record = {"attempt": attempt, "submission": job.submission, "checkpoint": newest}
    job.folder.path.mkdir(parents=True, exist_ok=True)
    append_line(job.folder.attempts_path, json.dumps(record))


def read(job: Job) -> list[dict[str, Any]]:
    """The attempts of all submissions, first to last; a line that a crash cut short is left out."""
    path = job.folder.attempts_path
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def newest_checkpoint(run: Path) -> int | None:
    steps = [
        int(found.group(1))
        for path in run.glob("checkpoints/checkpoint-*")
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return max(steps, default=None)


def end(job: Job, attempt: str, node_end: NodeEnd) -> None:
    write_json(job.folder.attempt_dir(attempt) / f"node-{node_end.node}.json", asdict(node_end))


def ends(job: Job, attempt: str) -> list[NodeEnd]:
    """How the nodes of an attempt ended, as far as they said."""
    found = []
    for path in sorted(job.folder.attempt_dir(attempt).glob("node-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        failures = tuple(Failure(**failure) for failure in content.pop("failures"))
        found.append(NodeEnd(**content, failures=failures))
    return found


def verdict(job: Job, attempt: str) -> tuple[int, Failure | None]:
    """The exit status of an attempt, and the failure that came first, which has the cause."""
    found = ends(job, attempt)
    if len(found) == job.nodes and all(node.status == EXIT_OK for node in found):
        return EXIT_OK, None
    for status in (EXIT_USER_ERROR, EXIT_STOPPED):
        told = [f for node in found for f in node.failures if f.status == status]
        if told:
            return status, min(told, key=_when)
    # The others failed, or were asked to leave, for want of the first.
    failed = [node for node in found if node.failures]
    if not failed:
        return EXIT_CRASHED, None
    first = min(failed, key=lambda node: _when(min(node.failures, key=_when)))
    if first.status == EXIT_PREEMPTED:
        told = [failure for failure in first.failures if failure.status == EXIT_PREEMPTED]
    else:
        told = [failure for failure in first.failures if failure.status > 0]
    return first.status, min(told or first.failures, key=_when)


def _when(failure: Failure) -> float:
    return failure.time_s
