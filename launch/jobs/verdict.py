"""`python -m launch.jobs.verdict RUN`: what a job's script asks at the end of an attempt.

Says in one line how it ended, with the error of the process that failed first, and exits with the
status of `nextchapter train` (0, 2, 3, 75), 70 for a crash, or 130 where its user cancelled it. The
script starts the job again on 75 or 70 alone: a verdict that cannot be reached ends it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from launch.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PREEMPTED, EXIT_STOPPED, EXIT_USER_ERROR
from launch.explain import explain
from launch.jobs.attempts import EXIT_CRASHED, begin, read, verdict
from launch.jobs.job import Job
from launch.jobs.nodes import read_job
from train.files import write_text
from train.trials import write_end

# After these a job would end the same way again.
_FINAL = (EXIT_OK, EXIT_USER_ERROR, EXIT_STOPPED)
# sysexits.h: a software error. No interpreter that cannot start, or verdict that fails, says so.
_EXIT_CRASH_FOUND = 70
# More than the nodes' notes on an attempt take together.
_BYTES_OF_AN_END = 65536


def main(run: str) -> int:
    job = read_job(run)
    attempt = os.environ["NEXTCHAPTER_ATTEMPT"]
    status, failure = verdict(job, attempt)
    where = job.folder.attempt_dir(attempt)
    if status == EXIT_OK:
        line = "done"
    elif failure is None and (reason := _why_nothing_is_written(job.folder.path)):
        status, line = EXIT_USER_ERROR, reason
    elif failure is None:
        line = f"a node or process ended without a word; the scheduler's log may tell why ({where})"
    elif status == EXIT_PREEMPTED:
        line = failure.message
    else:
        who = f"rank {failure.rank}: " if failure.rank >= 0 else ""
        line = f"{who}{failure.message}" + (f" ({failure.log})" if failure.log else "")
    if status not in _FINAL and job.folder.is_cancelled(job):
        status, line = EXIT_INTERRUPTED, f"cancelled; {line}"
    if status in (EXIT_PREEMPTED, EXIT_CRASHED):
        try:
            _count(job, attempt)
        except (ValueError, OSError) as error:
            status, line = EXIT_USER_ERROR, f"{line}; {explain(error)}"
    # A full disk takes neither, and the status is then all that can be said.
    if status in (*_FINAL, EXIT_INTERRUPTED):
        with suppress(OSError):
            write_end(Path(run), status, line)
    with suppress(OSError):
        print(f"nextchapter launch: attempt {attempt}: {line}", file=sys.stderr, flush=True)
    return _EXIT_CRASH_FOUND if status == EXIT_CRASHED else status


def _why_nothing_is_written(folder: Path) -> str | None:
    """Where a disk is full no node can say how it ended, and the next attempt ends like it."""
    try:
        write_text(folder / "room", " " * _BYTES_OF_AN_END)
        (folder / "room").unlink()
    except OSError as error:
        return explain(error)
    return None


def _count(job: Job, attempt: str) -> None:
    """Notes an attempt whose nodes ended before they noted it, so that restarts stay bounded."""
    if all(line["attempt"] != attempt for line in read(job)):
        begin(job, attempt)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
