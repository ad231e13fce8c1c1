"""A gradient that overflows in one process: all skip the step, count it, and stop together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("nonfinite_ranks.py")
SPREAD = ("ddp", "zero2", "zero3", "zero2_ppo")
# A run that was stopped leaves DeepSpeed as it was, so that comes last.
WAYS = (*(f"{way}_{often}" for way in SPREAD for often in ("once", "twice")), "zero2_stopped")


@pytest.fixture(scope="module")
def seen(
    run_ranks: Callable[..., list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each rank saw, by way."""
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("nonfinite"), *WAYS)


@pytest.mark.parametrize("way", SPREAD)
def test_the_step_is_skipped_in_all_processes_and_the_next_one_is_taken(
    seen: list[dict[str, Any]], way: str
) -> None:
    for rank in seen:
        found = rank[f"{way}_once"]
        assert found["state"] == {"num_skipped": 1, "num_in_a_row": 0}
        assert found["logged"] == [1, 1]
        assert found["is_finite"]
        assert found["policy"] == seen[0][f"{way}_once"]["policy"]
        assert found["policy"] != rank["policy"]
        assert found["said"] == [
            "WARNING: step 1: the loss or gradient is not finite; the step is skipped (1 so far)"
        ]


@pytest.mark.parametrize("way", SPREAD)
def test_skipped_steps_leave_the_weights_bit_for_bit(seen: list[dict[str, Any]], way: str) -> None:
    for rank in seen:
        found = rank[f"{way}_twice"]
        assert found["state"] == {"num_skipped": 2, "num_in_a_row": 2}
        assert found["policy"] == rank["policy"]


def test_so_many_in_a_row_end_the_run_in_all_processes(seen: list[dict[str, Any]]) -> None:
    for rank in seen:
        assert rank["zero2_stopped"]["error"].startswith(
            "step 2: 2 steps in a row had a loss or gradient that is not finite; lower "
        )
