"""Ranks with unequal work under sharded weights call the model equally often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedModel

from rewards.ranks.equal_forwards import shard_layers

Seen = dict[int, dict[int, dict[str, Any]]]
SHARDED = ("sharded_layers", "sharded_layers_and_head")


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("scenario", SHARDED)
def test_every_rank_makes_the_same_number_of_calls(
    seen_by_ranks: Seen, num_ranks: int, scenario: str
) -> None:
    ranks = [seen[scenario] for seen in seen_by_ranks[num_ranks].values()]
    assert len({seen["num_calls"] + seen["num_idle_calls"] for seen in ranks}) == 1
    assert any(seen["num_idle_calls"] for seen in ranks)


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("scenario", SHARDED)
def test_weights_are_spread_and_scores_are_those_of_the_whole_model(
    seen_by_ranks: Seen, num_ranks: int, scenario: str
) -> None:
    for seen in seen_by_ranks[num_ranks].values():
        assert seen[scenario]["share_of_weights"] == 1 / num_ranks
        assert seen[scenario]["off_by"] < 2e-5
        assert seen[scenario]["is_key_of_whole"]


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("scenario", SHARDED)
def test_an_error_on_one_rank_is_raised_on_all(
    seen_by_ranks: Seen, num_ranks: int, scenario: str
) -> None:
    errors = {seen[scenario]["error"] for seen in seen_by_ranks[num_ranks].values()}
    (error,) = errors
    assert error.endswith("episode book/empty: the gold chapter is empty.")


def test_an_error_inside_a_sharded_forward_is_raised_on_all_and_the_group_goes_on(
    seen_by_ranks: Seen,
) -> None:
    for seen in seen_by_ranks[2].values():
        text = seen["broken_forward"]["text"]
        assert text == "scoring failed on rank 0: the first layer failed"
        assert seen["broken_forward"]["off_by"] < 2e-5


@pytest.mark.parametrize("family", ["gemma2", "deepseek_v3"])
def test_a_path_that_a_family_refuses_in_a_sharded_forward_gives_way_to_the_next(
    seen_by_ranks: Seen, family: str
) -> None:
    ranks = [seen[f"refused_paths/{family}"] for seen in seen_by_ranks[2].values()]
    assert {path for seen in ranks for path in seen["paths"]} == {"expanded cache"}
    assert all(seen["off_by"] < 2e-5 for seen in ranks)
    assert len({seen["num_calls"] for seen in ranks}) == 1


def test_a_model_that_does_not_name_its_layers_cannot_be_sharded(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    model = make_model()
    model._no_split_modules = set()
    with pytest.raises(ValueError, match="LlamaForCausalLM does not name its layers"):
        shard_layers(model, mesh=None)
