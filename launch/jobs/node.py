"""`python -m launch.jobs.node RUN`: the processes of one node of a job, from start to end.

They are started and watched by torch's own elastic launcher (`torch.distributed.elastic`), as
torchrun does, with a log for each. What torchrun does not do: the status of the processes is the
node's (75 stays 75), signals reach them and they get the time to save, and a hang is told from a
slow step.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from filelock import FileLock, Timeout

from launch.cli import EXIT_OK, EXIT_PREEMPTED, EXIT_STOPPED, EXIT_USER_ERROR
from launch.explain import explain, is_user_error
from launch.jobs import attempts
from launch.jobs.attempts import EXIT_CRASHED, Failure, NodeEnd
from launch.jobs.heartbeat import HangWatch, beat_path
from launch.jobs.job import Job
from launch.jobs.nodes import MeetingPoint, Node, meet, read_job
from train.preemption import STOPPING

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_LET_GO = 5.0
SECONDS_BETWEEN_HANG_LOOKS = 5.0


def main(run: str) -> int:
    job = read_job(run)
    node = Node.of_environment(job)
    end = _play(job, node, job.folder.attempt_dir(node.attempt))
    try:
        attempts.end(job, node.attempt, end)
    except OSError as error:
        # The verdict will find nothing of this node. The job's log may be on the same full disk.
        told = "; ".join([*(failure.message for failure in end.failures), explain(error)])
        with suppress(OSError):
            print(f"nextchapter launch: node {node.rank}: {told}", file=sys.stderr, flush=True)
        return end.status or EXIT_USER_ERROR
    return end.status


def _play(job: Job, node: Node, folder: Path) -> NodeEnd:
    stop = Stop()
    stop.install()
    # The signals that are for saving are not for torch's launcher, which would kill after 30 s.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGINT,SIGHUP,SIGQUIT"
    alive = alive_lock(job, node.rank)
    try:
        # A node that was killed leaves processes, and with them the system may be slow to let go.
        (folder / "beats").mkdir(parents=True, exist_ok=True)
        alive.acquire(timeout=SECONDS_TO_LET_GO)
        if node.rank == 0:
            attempts.begin(job, node.attempt)
        point = meet(job, node)
        processes = _start(job, node, point, folder)
        try:
            stop.reach(processes)
            return _watch(job, node, processes, stop, folder)
        except json.JSONDecodeError:
            # torch's launcher reads what a process wrote of its error.
            line = "a process failed, and its error was cut short, as by a full disk"
            return _ended(node, EXIT_CRASHED, line, str(folder))
        finally:
            # Whatever went wrong: no process is left, and no thread that waits for its words.
            processes.close()
    except Timeout:
        line = f"{job.run}: another job is at work in this run; cancel one of them"
        return _ended(node, EXIT_USER_ERROR, line)
    except Exception as error:
        if not is_user_error(error):
            raise
        return _ended(node, EXIT_USER_ERROR, explain(error))
    finally:
        alive.release()


def alive_lock(job: Job, node_rank: int) -> FileLock:
    """Held by a node as long as it lives: the system lets go of it, whatever ends the process."""
    return FileLock(job.folder.path / f"node-{node_rank}.lock")


class Processes(Protocol):
    """What is used of torch's `PContext`: the processes of a node, which end together."""

    def pids(self) -> dict[int, int]: ...
    def wait(self, timeout: float) -> Any: ...
    def close(self, death_sig: signal.Signals | None = None) -> None: ...


@dataclass
class Stop:
    """Whether a signal asked the job to leave; passes it on to the processes.

    Under Slurm all processes of a step get the signal from Slurm.
    """

    received: str | None = None
    processes: Processes | None = None
    _is_passed_on: bool = field(default_factory=lambda: "SLURM_JOB_ID" not in os.environ)

    def install(self) -> None:
        for number in STOPPING:
            signal.signal(number, self._handle)

    def reach(self, processes: Processes) -> None:
        """From now on these are told; also what came before."""
        self.processes = processes
        if self.received is not None:
            self._pass_on(signal.Signals[self.received])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._pass_on(signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        if self._is_passed_on and self.processes is not None:
            for pid in self.processes.pids().values():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue


def _start(job: Job, node: Node, point: MeetingPoint | None, folder: Path) -> Processes:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

    for part in ("api", "errors"):
        # The verdict says in one line what torch's launcher says in many.
        name = f"torch.distributed.elastic.multiprocessing.{part}"
        logging.getLogger(name).setLevel(logging.CRITICAL)
    first = node.rank * job.processes_per_node
    envs = {i: _environment(job, node, point, folder, i) for i in range(job.processes_per_node)}
    arguments = ("-P", "-m", "launch.jobs.rank", *job.arguments)
    return start_processes(
        name="nextchapter",
        entrypoint=job.python,
        args=dict.fromkeys(envs, arguments),
        envs=envs,
        logs_specs=DefaultLogsSpecs(
            log_dir=str(folder / "logs"),
            redirects=Std.ALL,
            # What the main process tells its user is shown where the job's own output goes.
            tee={i: Std.ALL if first + i == 0 else Std.NONE for i in envs},
        ),
        log_line_prefixes=dict.fromkeys(envs, ""),
    )


def _environment(
    job: Job, node: Node, point: MeetingPoint | None, folder: Path, local_rank: int
) -> dict[str, str]:
    rank = node.rank * job.processes_per_node + local_rank
    said = {
        "NEXTCHAPTER_BEAT": str(beat_path(folder, rank)),
        "TORCHELASTIC_RUN_ID": f"node-{node.rank}",
        # Written as it comes, so that the last words of a process that dies are in its log.
        "PYTHONUNBUFFERED": "1",
    }
    if point is None:
        return said
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": "1"}
    return (
        said
        | threads
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(job.num_processes),
            "LOCAL_WORLD_SIZE": str(job.processes_per_node),
            "GROUP_RANK": str(node.rank),
            "MASTER_ADDR": point.host,
            "MASTER_PORT": str(point.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
    )


def _watch(job: Job, node: Node, processes: Processes, stop: Stop, folder: Path) -> NodeEnd:
    """Waits for the end of the processes, or ends them where the run hangs."""
    watch = HangWatch(folder, job.num_processes, job.hang_after_s)
    look_again = time.monotonic() + SECONDS_BETWEEN_HANG_LOOKS
    while (result := processes.wait(timeout=0)) is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        if time.monotonic() < look_again:
            continue
        look_again = time.monotonic() + SECONDS_BETWEEN_HANG_LOOKS
        hang = watch.hung() if node.rank == 0 else None
        if hang is not None:
            processes.close(death_sig=signal.SIGKILL)
            return _ended(node, EXIT_CRASHED, hang, str(folder))
    first = node.rank * job.processes_per_node
    failures = tuple(
        Failure(
            first + local_rank,
            failure.exitcode,
            _message(Path(failure.error_file), Path(result.stderrs[local_rank])),
            result.stderrs[local_rank],
            float(failure.timestamp),
        )
        for local_rank, failure in result.failures.items()
    )
    statuses = {failure.status for failure in failures}
    return NodeEnd(node.rank, _status(statuses, stop), failures)


def _status(statuses: set[int], stop: Stop) -> int:
    if not statuses:
        return EXIT_OK
    for status in (EXIT_USER_ERROR, EXIT_STOPPED):
        if status in statuses:
            return status
    # A process that was still being loaded knows nothing of saving, and has nothing to save.
    left = {EXIT_PREEMPTED, *(-number.value for number in STOPPING)}
    # After a first failure torch's launcher asks the others to leave, and they seem preempted.
    is_preempted = stop.received or (EXIT_PREEMPTED in statuses and statuses <= left)
    return EXIT_PREEMPTED if is_preempted and statuses & left else EXIT_CRASHED


def _message(error_file: Path, log: Path) -> str:
    """What a process that failed had to say, in one line."""
    if error_file.is_file():
        content = json.loads(error_file.read_text(encoding="utf-8"))["message"]
        text = content["message"] if isinstance(content, dict) else str(content)
        return text.strip().splitlines()[-1]
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    said = [line for line in lines if line.startswith("nextchapter ")] or [*filter(None, lines)]
    return said[-1] if said else "ended without a word"


def _ended(node: Node, status: int, line: str, log: str = "") -> NodeEnd:
    """An end that no process of the node can tell of."""
    return NodeEnd(node.rank, status, (Failure(-1, status, line, log, time.time()),))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
