"""What real processes saw that scored together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("scoring_ranks.py")
COUNTS_OF_RANKS = (2, 4)


@pytest.fixture(scope="session")
def seen_by_ranks(
    tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> dict[int, dict[int, dict[str, Any]]]:
    """What each rank of 2 and of 4 gloo processes saw, by number of ranks, rank and scenario.

    The last rank is killed in the last scenario, and so saw nothing of that one.
    """
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    counts = [str(count) for count in COUNTS_OF_RANKS]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *counts],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return {
        count: {
            int(path.stem): json.loads(path.read_text())
            for path in sorted((folder / str(count)).glob("*.json"))
        }
        for count in COUNTS_OF_RANKS
    }
