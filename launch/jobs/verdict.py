"""`python -m launch.jobs.verdict RUN`: what a job's script asks at the end of an attempt.

Says in one line how it ended, with the error of the process that failed first, and exits with the
status of `nextchapter train` (0, 2, 3, 75), 1 for a crash, or 130 where its user cancelled it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launch.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PREEMPTED, EXIT_STOPPED, EXIT_USER_ERROR
from launch.jobs.attempts import verdict
from launch.jobs.job import JobFolder
from train.trials import write_end

# After these a job would end the same way again.
_FINAL = (EXIT_OK, EXIT_USER_ERROR, EXIT_STOPPED)


def main(run: str) -> int:
    job = JobFolder(Path(run)).read()
    attempt = os.environ["NEXTCHAPTER_ATTEMPT"]
    status, failure = verdict(job, attempt)
    where = job.folder.attempt_dir(attempt)
    if status == EXIT_OK:
        line = "done"
    elif failure is None:
        line = f"a node or process ended without a word; the scheduler's log may tell why ({where})"
    elif status == EXIT_PREEMPTED:
        line = failure.message
    else:
        who = f"rank {failure.rank}: " if failure.rank >= 0 else ""
        line = f"{who}{failure.message}" + (f" ({failure.log})" if failure.log else "")
    if status not in _FINAL and job.folder.is_cancelled(job):
        status, line = EXIT_INTERRUPTED, f"cancelled; {line}"
    if status in (*_FINAL, EXIT_INTERRUPTED):
        write_end(Path(run), status, line)
    print(f"nextchapter launch: attempt {attempt}: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
