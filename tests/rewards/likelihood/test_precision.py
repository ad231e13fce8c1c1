"""Likelihoods are those of the weights' precision, whatever the process has switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import ProductOfExperts
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.precision import own_precision
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.types import LikelihoodScorer, Mixture, ScoreRequest

MakeModel = Callable[..., PreTrainedModel]


def mixture_scorer(model: PreTrainedModel) -> MixtureScorer:
    return MixtureScorer(DenseScorer(model), {"one": model, "other": model})


@pytest.fixture
def coarse_products() -> Iterator[None]:
    """fp32 products in bfloat16 or TF32, where the processor has those."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def group(make_request: Callable[..., ScoreRequest]) -> list[ScoreRequest]:
    return [make_request(140, 4 * i, 20, seed=i) for i in range(5)]


@pytest.mark.parametrize("scorer_of", [DenseScorer, SharedPrefixScorer, mixture_scorer])
def test_autocast_around_a_scorer_changes_no_score(
    make_family: MakeModel,
    group: list[ScoreRequest],
    scorer_of: Callable[[PreTrainedModel], LikelihoodScorer],
) -> None:
    model = make_family("llama")
    if scorer_of is mixture_scorer:
        mixture = Mixture(("one", "other"), ProductOfExperts((0.5, 0.5)))
        group = [
            ScoreRequest(r.episode_id, r.prefix_ids, r.guidance_ids, r.gold_ids, mixture)
            for r in group
        ]
    expected = scorer_of(model).score(group)
    with torch.autocast("cpu", torch.bfloat16):
        # Made under it and asked under it: the scores were off by 0.07 nats.
        assert scorer_of(model).score(group) == expected
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("scorer_of", [DenseScorer, SharedPrefixScorer])
def test_coarse_products_around_a_scorer_change_no_score(
    make_family: MakeModel,
    group: list[ScoreRequest],
    scorer_of: Callable[[PreTrainedModel], LikelihoodScorer],
    request: pytest.FixtureRequest,
) -> None:
    model = make_family("llama")
    expected = scorer_of(model).score(group)
    request.getfixturevalue("coarse_products")
    assert scorer_of(model).score(group) == expected


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_process_gets_back_what_it_had_switched_on(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    with own_precision(torch.device("cpu")):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == precision
    torch.set_float32_matmul_precision(before)


def test_what_was_switched_on_is_put_back_after_an_error() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(KeyError), own_precision(torch.device("cpu")):
        raise KeyError
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.backends.cuda.matmul.fp32_precision = before
