"""Real processes that ask for the same mixtures share the work, and fail together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Seen = dict[int, dict[int, dict[str, Any]]]
COUNTS_OF_RANKS = (2, 4)
# Nats per token. Another batch rounds otherwise.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def scoring_ranks() -> ModuleType:
    """The script that every process ran: which requests it asked for, and of which models."""
    path = Path(__file__).with_name("scoring_ranks.py")
    spec = importlib.util.spec_from_file_location("scoring_ranks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_each_rank_gets_what_one_process_gives(
    seen_by_ranks: Seen, scoring_ranks: ModuleType, num_ranks: int
) -> None:
    alone = scoring_ranks.mixture_scorer()
    for rank, seen in seen_by_ranks[num_ranks].items():
        for name, episode in {"same": 3, "own": rank}.items():
            expected = alone.score(scoring_ranks.mixed(episode))
            assert len(seen["alike"][name]) == 6
            for found, likelihood in zip(seen["alike"][name], expected, strict=True):
                assert found == pytest.approx(list(likelihood.token_nll), abs=TOLERANCE)


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_what_all_ask_is_scored_once_and_what_each_asks_by_itself(
    seen_by_ranks: Seen, num_ranks: int
) -> None:
    ranks = [seen["alike"] for seen in seen_by_ranks[num_ranks].values()]
    # Five different requests, one of which is asked twice.
    assert sorted(seen["num_same"] for seen in ranks) == {2: [2, 3], 4: [1, 1, 1, 2]}[num_ranks]
    assert {seen["num_own"] for seen in ranks} == {6}
    same = [seen["same"] for seen in ranks]
    assert all(one == same[0] for one in same), "all ranks have the same digits"


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_an_error_on_one_rank_is_raised_on_all(seen_by_ranks: Seen, num_ranks: int) -> None:
    ranks = [seen["alike"] for seen in seen_by_ranks[num_ranks].values()]
    (text,) = {seen["error"] for seen in ranks}
    # The longest is dealt first.
    assert text.startswith("scoring failed on rank 0: ") and "bóok/3" in text
    assert {seen["scored_after"] for seen in ranks} == {6}
