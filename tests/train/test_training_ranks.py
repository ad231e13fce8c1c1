"""Two real processes train as plain data parallelism and under ZeRO: one outcome, whole models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from envs.types import Guidance
from rewards.improvement import improvement_percent
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.weighted_sum import WeightedTerm

RAW = [WeightedTerm("raw", Raw())]
SCRIPT = Path(__file__).with_name("training_ranks.py")
QUICK = ("zero3",)
ALL = (
    *("ddp", "zero2", "zero3", "offload", "zero2_resumed", "zero3_resumed"),
    *("ddp_lora", "zero2_lora", "zero3_lora", "ddp_lora_resumed", "zero3_lora_resumed"),
    *("ddp_ppo", "zero2_ppo", "zero3_ppo"),
    *("ddp_lora_roles", "ddp_lora_roles_resumed", "ddp_lora_roles_ppo"),
    *("ddp_silent", "ddp_silent_paid", "ddp_silent_ppo", "ddp_silent_ppo_paid"),
)
# Of a weight after two steps; sums over processes are rounded in another order.
TOLERANCE = 1e-4
# Per cent of improvement; another batch rounds otherwise.
SCORE_TOLERANCE = 1e-3

Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def training_ranks() -> ModuleType:
    """The script that the processes ran: which models, settings and books it takes."""
    spec = importlib.util.spec_from_file_location("training_ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(QUICK, id="quick"),
        pytest.param(ALL, id="all", marks=pytest.mark.slow),
    ],
)
def ways(
    request: pytest.FixtureRequest,
    run_ranks: Callable[..., Seen],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Sequence[str], Seen]]:
    """The ways of training, and what each rank saw of them."""
    yield request.param, run_ranks(SCRIPT, tmp_path_factory.mktemp("ranks"), *request.param)


Ways = tuple[Sequence[str], Seen]
pytestmark = pytest.mark.timeout(900)


def test_all_ranks_end_with_the_same_whole_policy(ways: Ways, training_ranks: ModuleType) -> None:
    names, (first, second) = ways
    model = training_ranks.tiny_model(2)
    sizes = [parameter.numel() for parameter in model.parameters()]
    for way in names:
        assert first[way]["policy"] == second[way]["policy"], way
        if "lora" not in way:
            assert [len(weight) for weight in first[way]["weights"]] == sizes, way
            assert first[way]["policy"] != training_ranks.digest(model), way


def test_the_generator_stays_whole_and_byte_identical(
    ways: Ways, training_ranks: ModuleType
) -> None:
    names, seen = ways
    untouched = training_ranks.digest(training_ranks.tiny_model(1))
    for rank in seen:
        assert rank["generator"] == untouched
        assert {rank[way]["generator"] for way in names} == {untouched}


def test_a_model_that_is_loaded_while_zero3_is_set_up_is_whole(
    ways: Ways, training_ranks: ModuleType
) -> None:
    names, seen = ways
    num_weights = sum(p.numel() for p in training_ranks.tiny_model(1).parameters())
    for rank in seen:
        for way in names:
            is_zero3 = way.startswith(("zero3", "offload"))
            assert rank[way]["loaded_in_training"] == {
                "zero3": is_zero3,
                "zero3_after": is_zero3,
                "num_weights": num_weights,
            }
            assert not rank[way]["is_zero_left"], "what comes next is not sharded"


def test_rollouts_are_worth_what_one_process_says(ways: Ways, training_ranks: ModuleType) -> None:
    names, seen = ways
    generator = training_ranks.tiny_model(1)
    alone = LikelihoodImprovement(
        DenseScorer(generator),
        training_ranks.encoder(),
        [WeightedTerm("raw", Raw())],
        StatusRules(),
    )
    episodes = {e.episode_id: e for e in training_ranks.WORLD.episodes("train")}
    for rank in seen:
        for way in names:
            # Eight attempts of a rank in each of two steps.
            assert len(rank[way]["rollouts"]) == (8 if way.endswith("resumed") else 16)
            # A blank answer is judged by a rule.
            scored = [r for r in rank[way]["rollouts"] if r["improvement"] is not None]
            pairs = [(episodes[r["episode_id"]], Guidance(r["plan"])) for r in scored]
            expected = [improvement_percent(*both) for both in alone.likelihoods(pairs)]
            found = [r["improvement"] for r in scored]
            assert found == pytest.approx(expected, abs=SCORE_TOLERANCE), way


def test_zero_ends_where_plain_data_parallelism_ends(ways: Ways) -> None:
    names, (first, _) = ways
    for way in names:
        _, *how = way.removesuffix("_resumed").split("_")
        plain = "_".join(["ddp", *how])
        if plain in names:
            for weight, expected in zip(
                first[way]["weights"], first[plain]["weights"], strict=True
            ):
                assert weight == pytest.approx(expected, abs=TOLERANCE), way


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(ways: Ways) -> None:
    names, seen = ways
    for way in names:
        for rank in seen:
            assert rank[way]["policy"] == rank[way.removesuffix("_resumed")]["policy"], way


def test_what_silence_is_paid_moves_nothing_on_the_rank_that_heard_nobody(ways: Ways) -> None:
    names, seen = ways
    for way in names:
        for rank in seen:
            assert rank[way]["policy"] == rank[way.removesuffix("_paid")]["policy"], way
