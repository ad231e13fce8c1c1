"""A generator that only scores: whole, spread over ranks, or with weights in 8 bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference
from rewards.stores.generator_key import weights_digest
from train.frozen import load_frozen, replicas
from train.models import load_model, save_model
from train.schema import ModelConfig, ScorerConfig, ShardingConfig
from train.scoring import make_scorer
from train.scoring_checks import int8_error

RANKS = Path(__file__).with_name("sharded_ranks.py")


@pytest.fixture(scope="module")
def generator(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    # Weights that are large enough for an error to show.
    save_model(make_model(initializer_range=0.2), tokenizer, folder / "model")
    return folder


@pytest.fixture(scope="module")
def seen_by_ranks(generator: Path, repository: Path) -> list[list[dict[str, Any]]]:
    """What each of four ranks saw under each way to spread a generator."""
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(RANKS), str(generator)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((generator / f"{rank}.json").read_text()) for rank in range(4)]


@pytest.mark.parametrize(
    ("place", "share"),
    [(0, 1 / 2), (1, 1 / 2), (2, 1 / 4)],
    ids=["tensor_parallel_of_2", "fsdp_of_2", "fsdp_of_all"],
)
def test_a_generator_spread_over_ranks_scores_as_a_whole_one(
    seen_by_ranks: list[list[dict[str, Any]]], place: int, share: float
) -> None:
    for seen in seen_by_ranks:
        assert seen[place]["share_of_weights"] == share
        assert seen[place]["off_by"] < 1e-4
        assert seen[place]["is_key_of_whole"]


@pytest.mark.parametrize(("ranks_per_replica", "num_processes"), [(None, 1), (3, 4), (8, 4)])
def test_ranks_that_make_no_whole_replicas_are_refused(
    ranks_per_replica: int | None, num_processes: int
) -> None:
    sharding = ShardingConfig("fsdp", ranks_per_replica)
    with pytest.raises(ValueError, match=r"scorer\.sharding\.ranks_per_replica: .* divide"):
        replicas(sharding, num_processes)


def test_replicas_take_all_ranks_where_no_number_is_given() -> None:
    assert replicas(ShardingConfig("fsdp"), 8) == (1, 8)
    assert replicas(ShardingConfig("tensor_parallel", 2), 8) == (4, 2)


def test_weights_in_8_bits_score_nearly_the_same_and_the_difference_is_told(
    generator: Path, encoder: GeneratorEncoder, make_episode: Callable[..., Episode]
) -> None:
    config = ModelConfig(path=str(generator / "model"))
    rounded, _ = load_frozen(config, "generator.model", quantization="int8")
    whole, _ = load_model(config, "generator.model")
    assert weights_digest(rounded) != weights_digest(whole)
    again, _ = load_frozen(config, "generator.model", quantization="int8")
    assert weights_digest(rounded) == weights_digest(again)

    plans = ("", "Ann pays.", "Bob waits at the mill.")
    requests = [encoder.request(make_episode(), plan) for plan in plans]
    scorer = make_scorer(rounded, ScorerConfig())
    found, expected = scorer.score(requests), DenseScorer(whole).score(requests)
    apart = largest_difference(found, expected)
    assert 1e-4 < apart < 0.5
    assert f"({apart:.2g} at most)" in int8_error(scorer, config, requests)


def test_weights_in_8_bits_are_not_spread_over_ranks(generator: Path) -> None:
    with pytest.raises(ValueError, match=r"generator\.quantization: 8-bit weights cannot be"):
        load_frozen(ModelConfig(path=str(generator / "model")), "k", ShardingConfig("fsdp"), "int8")
