"""`python -m launch.jobs.rank ARGUMENT ...`: one process of a job, `nextchapter` with a heartbeat.

An error that is a defect goes to the file where torch's elastic launcher looks for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launch.cli import main
from launch.jobs.heartbeat import Heartbeat


def play(arguments: list[str]) -> int:
    heartbeat = Heartbeat(Path(os.environ["NEXTCHAPTER_BEAT"]))
    heartbeat.start()
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        return record(main)(arguments) or 0
    finally:
        heartbeat.stop()


if __name__ == "__main__":
    sys.exit(play(sys.argv[1:]))
