"""Real gloo processes score together what one process scores alone, and fail together."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.flops import ModelShape
from rewards.ranks.distributed import DistributedScorer, plan_jobs, request_row
from rewards.ranks.exchange import Exchange
from rewards.types import Likelihood, ScoreRequest

Seen = dict[int, dict[int, dict[str, Any]]]
COUNTS_OF_RANKS = (2, 4)
# Nats per token. Another batch rounds otherwise; measured: at most 1e-6.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def scoring_ranks() -> ModuleType:
    """The script that every process ran: which requests it asked for, and of which model."""
    path = Path(__file__).with_name("scoring_ranks.py")
    spec = importlib.util.spec_from_file_location("scoring_ranks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(scoring_ranks: ModuleType) -> DenseScorer:
    return DenseScorer(scoring_ranks.tiny_llama())


def assert_as_alone(
    seen: Sequence[Sequence[float]], asked: Sequence[ScoreRequest], alone: DenseScorer
) -> None:
    expected = alone.score(asked)
    assert len(seen) == len(expected)
    for found, likelihood in zip(seen, expected, strict=True):
        assert found == pytest.approx(list(likelihood.token_nll), abs=TOLERANCE)


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
@pytest.mark.parametrize(
    "scenario",
    ["straddling", "baselines", "uneven", "one_group", "repeated", "nobody", "replicas_of_two"],
)
def test_each_rank_gets_what_one_process_gives_in_its_order(
    seen_by_ranks: Seen,
    scoring_ranks: ModuleType,
    alone: DenseScorer,
    num_ranks: int,
    scenario: str,
) -> None:
    requests_of = "straddling" if scenario == "replicas_of_two" else scenario
    for rank, seen in seen_by_ranks[num_ranks].items():
        asked = scoring_ranks.requests_of(requests_of, rank, num_ranks)
        assert_as_alone(seen[scenario]["token_nll"], asked, alone)


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_a_group_that_straddles_ranks_is_scored_as_a_whole(
    seen_by_ranks: Seen, num_ranks: int
) -> None:
    ranks = [seen["straddling"] for seen in seen_by_ranks[num_ranks].values()]
    # 16 episodes with a baseline, that every rank asks for, and 4 plans.
    assert sum(seen["num_scored"] for seen in ranks) == 16 * (1 + 4)
    assert sum(len(seen["prefixes"]) for seen in ranks) == 16


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_what_is_scored_by_itself_goes_with_its_group_and_stays_so(
    seen_by_ranks: Seen, num_ranks: int
) -> None:
    ranks = [seen["baselines"] for seen in seen_by_ranks[num_ranks].values()]
    assert sum(seen["num_by_itself"] for seen in ranks) == 16
    assert sum(seen["num_scored"] for seen in ranks) == 16 * (1 + 4)
    assert sum(len(seen["prefixes"]) for seen in ranks) == 16


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_one_large_group_is_shared_by_all_ranks(seen_by_ranks: Seen, num_ranks: int) -> None:
    scored = [seen["one_group"]["num_scored"] for seen in seen_by_ranks[num_ranks].values()]
    assert sum(scored) == 13
    assert min(scored) >= 13 // num_ranks - 1


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_equal_requests_of_many_ranks_are_scored_once(seen_by_ranks: Seen, num_ranks: int) -> None:
    scored = [seen["repeated"]["num_scored"] for seen in seen_by_ranks[num_ranks].values()]
    assert sum(scored) == 5


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_all_ranks_of_a_replica_score_the_same(seen_by_ranks: Seen, num_ranks: int) -> None:
    ranks = [seen["replicas_of_two"] for seen in seen_by_ranks[num_ranks].values()]
    for first, second in zip(ranks[::2], ranks[1::2], strict=True):
        assert (first["num_scored"], first["prefixes"]) == (
            second["num_scored"],
            second["prefixes"],
        )
    assert sum(seen["num_scored"] for seen in ranks) == 2 * 16 * (1 + 4)


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", ": episode book/empty: the gold chapter is empty."),
        ("huge_id", ": episode book/huge: a token id is 1099511627776, which no vocabulary has; "),
        ("mixture", ": episode book/mixed: the request combines the generators a, b, and "),
    ],
)
def test_an_error_on_one_rank_is_raised_on_all_and_the_group_goes_on(
    seen_by_ranks: Seen, num_ranks: int, name: str, reason: str
) -> None:
    raised = [seen[f"bad_request/{name}"] for seen in seen_by_ranks[num_ranks].values()]
    assert len(raised) == num_ranks
    assert {r["kind"] for r in raised} == {"ValueError"}
    (text,) = {r["text"] for r in raised}
    assert text.startswith("scoring failed on rank ")
    assert reason in text
    assert {r["scored_after"] for r in raised} == {5}


@pytest.mark.parametrize("num_ranks", COUNTS_OF_RANKS)
def test_a_killed_rank_is_an_error_on_the_others_at_once(
    seen_by_ranks: Seen, num_ranks: int
) -> None:
    seen = seen_by_ranks[num_ranks]
    survivors = [seen[rank]["killed"] for rank in range(num_ranks - 1)]
    assert "killed" not in seen[num_ranks - 1]
    assert {s["kind"] for s in survivors} == {"LostRank"}
    assert all("lost the other processes (" in s["text"] for s in survivors)
    assert max(s["seconds"] for s in survivors) < 10


def test_a_generator_in_tensor_parallel_scores_as_a_whole_one(seen_by_ranks: Seen) -> None:
    for seen in seen_by_ranks[2].values():
        assert seen["tensor_parallel"]["share_of_weights"] == 1 / 2
        assert seen["tensor_parallel"]["off_by"] < TOLERANCE
        assert seen["tensor_parallel"]["is_key_of_whole"]


def test_a_call_without_requests_costs_33_bytes_between_two_ranks(seen_by_ranks: Seen) -> None:
    # Nobody asks: counts (8), sizes (2 x 8), an empty parcel (8) and an empty answer (1).
    assert seen_by_ranks[2][0]["nobody"]["bytes_sent"] == 33


SHAPE = ModelShape(1000, 1, 0, 0, 8, 8, 50)


def rows(*requests: ScoreRequest) -> list[tuple[int, ...]]:
    return [request_row(request) for request in requests]


def test_whoever_holds_a_request_gets_its_answer_and_the_first_sends_it() -> None:
    shared = ScoreRequest("book/1", (1, 2), (), (3,))
    own = ScoreRequest("book/1", (1, 2), (4,), (3,))
    jobs = plan_jobs([[], rows(own, shared), rows(shared)], 1, SHAPE)
    assert [job.holders for job in jobs] == [{1: 0}, {1: 1, 2: 0}]
    assert [job.sender for job in jobs] == [1, 1]


def test_what_is_scored_by_itself_goes_to_a_replica_that_has_its_group() -> None:
    plans = [ScoreRequest("book/1", (1, 2), (plan,), (3,)) for plan in range(4)]
    plain = ScoreRequest("book/1", (1, 2), (), (3,), by_itself=True)
    without = plan_jobs([rows(*plans)], 2, SHAPE)
    jobs = plan_jobs([rows(plain, *plans)], 2, SHAPE)
    assert [(j.replica, j.by_itself) for j in jobs if j.holders == {0: 0}] == [(0, True)]
    # Who scores a plan does not depend on whether its baseline is known.
    assert [(j.replica, j.holders[0] - 1) for j in jobs if not j.by_itself] == [
        (j.replica, j.holders[0]) for j in without
    ]
    (alone,) = plan_jobs([rows(plain), []], 2, SHAPE)
    assert (alone.holders, alone.by_itself) == ({0: 0}, True)


def test_the_same_tokens_under_another_name_are_the_same_request() -> None:
    first, second = (ScoreRequest(name, (1, 2), (3,), (4,)) for name in ("book/1", "book/2"))
    (job,) = plan_jobs([rows(first), rows(second)], 2, SHAPE)
    assert job.holders == {0: 0, 1: 0}


def test_a_longer_chapter_after_the_same_ids_is_another_request() -> None:
    jobs = plan_jobs(
        [
            rows(
                ScoreRequest("book/1", (1, 2), (3,), (4,)),
                ScoreRequest("book/1", (1, 2), (), (3, 4)),
            )
        ],
        1,
        SHAPE,
    )
    assert [job.num_gold for job in jobs] == [1, 2]


def test_replicas_have_equal_numbers_of_ranks() -> None:
    class FourRanks(Exchange):
        def __init__(self) -> None:
            self.num_ranks = 4

    class Unused:
        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            raise AssertionError

    with pytest.raises(ValueError, match="ranks_per_replica must divide the 4 ranks"):
        DistributedScorer(Unused(), SHAPE, FourRanks(), ranks_per_replica=3)
