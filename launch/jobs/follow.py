"""`nextchapter launch status|logs|cancel RUN`: follows a job that was launched."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import OneLineParser
from launch.jobs import attempts
from launch.jobs.attempts import EXIT_CRASHED
from launch.jobs.backend import backend_of
from launch.jobs.heartbeat import beat_path, read_beat
from launch.jobs.job import Job, JobFolder
from train.files import write_text

_ENDS = {
    0: "done",
    2: "refused",
    3: "stopped by a monitor",
    75: "asked to leave",
}


def status(argv: Sequence[str]) -> int:
    """Says where the job stands, and of an attempt that failed, what failed first."""
    arguments = _parser("status", "what became of a job").parse_args(argv)
    job = _job(arguments)
    state = backend_of(job.backend).state(job) if job.id else None
    print(f"{job.backend} job {job.id}: {state or 'ended'}")
    newest = attempts.newest_checkpoint(Path(job.run))
    print(f"last checkpoint: {'none' if newest is None else f'step {newest}'}")
    told = [line for line in attempts.read(job) if line["submission"] == job.submission]
    for number, line in enumerate(told):
        is_last = number == len(told) - 1
        if is_last and state is not None and not attempts.ends(job, line["attempt"]):
            print(f"attempt {line['attempt']}: {_movement(job, line['attempt'])}")
            continue
        end, failure = attempts.verdict(job, line["attempt"])
        reason = f": {failure.message}" if failure else ""
        if end == EXIT_CRASHED and not failure:
            reason = f"; no node said why, nextchapter launch logs {arguments.run} may"
        print(f"attempt {line['attempt']}: {_ENDS.get(end, 'crashed')}{reason}")
    if not told and state is None and job.folder.is_cancelled(job):
        print("cancelled before any node started")
    elif not told and state is None:
        print(f"no node came to its start; for why, nextchapter launch logs {arguments.run}")
    return 0


def logs(argv: Sequence[str]) -> int:
    """Shows the log of one process of the last attempt: the first that failed, or the main one."""
    parser = _parser("logs", "what a process of a job says")
    parser.add_argument("--rank", type=_number, metavar="N", help="default: the first that failed")
    parser.add_argument("--attempt", metavar="NAME", help="default: the last one")
    parser.add_argument("--follow", action="store_true", help="go on showing what is added")
    arguments = parser.parse_args(argv)
    job = _job(arguments)
    begun = attempts.read(job)
    if arguments.attempt is None:
        # What an earlier submission of the run left says nothing of this one.
        begun = [line for line in begun if line["submission"] == job.submission]
    known = [line["attempt"] for line in begun]
    if not known:
        return _script_log(job, has_begun=False)
    attempt = arguments.attempt or known[-1]
    if attempt not in known:
        raise ValueError(f"--attempt: no {attempt!r}; there is {', '.join(known)}")
    rank = arguments.rank
    if rank is None:
        end, failure = attempts.verdict(job, attempt)
        rank = failure.rank if failure and failure.rank >= 0 and end == EXIT_CRASHED else 0
    files = _logs_of(job, attempt, rank)
    if not files and arguments.rank is None:
        # The attempt was counted, and its nodes ended before any of their processes.
        return _script_log(job, has_begun=True)
    if not files:
        raise ValueError(
            f"--rank: no log of rank {rank} in attempt {attempt}; ranks are 0 to "
            f"{job.num_processes - 1}"
        )
    command = ["tail", "--lines=+1", *(["--follow"] if arguments.follow else []), *map(str, files)]
    return subprocess.run(command, check=False).returncode


def cancel(argv: Sequence[str]) -> int:
    """Asks the job to save and leave, for good."""
    job = _job(_parser("cancel", "end a job, with a checkpoint").parse_args(argv))
    backend = backend_of(job.backend)
    if job.id is None or backend.state(job) is None:
        raise ValueError(f"{job.run}: its job has ended already")
    write_text(job.folder.cancelled_path, job.submission)
    backend.cancel(job)
    print(f"{job.backend} job {job.id} is asked to leave")
    return 0


def _parser(name: str, what: str) -> OneLineParser:
    parser = OneLineParser(prog=f"nextchapter launch {name}", description=what)
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    return parser


def _job(arguments: argparse.Namespace) -> Job:
    return JobFolder(Path(arguments.run).absolute()).read()


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of a process")
    return int(text)


def _logs_of(job: Job, attempt: str, rank: int) -> list[Path]:
    node, local_rank = divmod(rank, job.processes_per_node)
    folder = job.folder.attempt_dir(attempt) / "logs"
    return sorted(folder.glob(f"node-{node}_*/attempt_0/{local_rank}/std*.log"))


def _script_log(job: Job, *, has_begun: bool) -> int:
    """What the job's script said, where none of its processes came to have a log of its own."""
    backend = backend_of(job.backend)
    state = backend.state(job) if job.id else None
    said = backend.script_log(job) if has_begun or state is None else ""
    if said.strip():
        print(said, end="")
        return 0
    if state is not None:
        raise ValueError(f"{job.run}: {job.backend} job {job.id} is {state}; no node has started")
    raise ValueError(f"{job.run}: {_why_silent(job)}")


def _why_silent(job: Job) -> str:
    """Why a job that has ended left no words."""
    if job.folder.is_cancelled(job):
        return f"cancelled before any node started; nextchapter launch train resume={job.run}"
    none_came = "no node came to its start"
    log = job.folder.scheduler_log_path
    if job.backend == "local" and not log.exists():
        return f"{none_came}; what the script said is on the terminal that it was launched from"
    if job.backend == "slurm" and not log.exists():
        return (
            f"{none_came}, and {log} was never written; was it cancelled with scancel, or do nodes "
            "not see that folder?"
        )
    keys = "launch.setup and launch.modules" if job.backend == "slurm" else "launch.setup"
    return f"{none_came}, and the script said nothing; see {keys} in {job.script_path}"


def _movement(job: Job, attempt: str) -> str:
    """Whether a running attempt moves, by the beats of its processes."""
    folder = job.folder.attempt_dir(attempt)
    beats = [read_beat(beat_path(folder, rank)) for rank in range(job.num_processes)]
    known = [beat for beat in beats if beat is not None]
    if not known:
        return "starting"
    mover = min(known, key=lambda beat: beat["still_s"])
    return f"running, last moved {mover['still_s']:.0f} s before its last beat, at {mover['at']}"
