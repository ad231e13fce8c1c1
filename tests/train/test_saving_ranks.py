"""Two real processes stop together, agree on a checkpoint, and end where they would have ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
    }
    script = Path(__file__).with_name("saving_ranks.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=170)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_signal_to_one_process_stops_both_at_the_same_step(ranks: list[dict[str, Any]]) -> None:
    assert [rank["stopped"]["steps"] for rank in ranks] == [3, 3]
    assert [rank["stopped"]["received"] for rank in ranks] == [
        "a signal to another process",
        "SIGTERM",
    ]


def test_both_go_on_to_the_same_end_as_uninterrupted(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["resumed"]["began_at"] == 3
        assert rank["resumed"]["weight"] == rank["whole"]["weight"] == ranks[0]["whole"]["weight"]


def test_both_pass_over_a_checkpoint_of_which_one_part_is_damaged(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        assert rank["damaged"]["began_at"] == 2
        assert rank["damaged"]["weight"] == rank["whole"]["weight"]
    # Said once.
    assert [len(rank["said"]) for rank in ranks] == [1, 0]
    assert "rng_state_1.pth is not what was saved" in ranks[0]["said"][0]


def test_what_the_main_process_refuses_is_refused_by_both(ranks: list[dict[str, Any]]) -> None:
    assert all("was made from another trainer" in rank["refused"] for rank in ranks)
