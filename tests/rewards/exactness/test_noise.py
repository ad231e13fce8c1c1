"""The scorer's own noise, and how it compares with the reward's first threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from rewards.exactness.noise import Noise, measure_noise, noise_line
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.oracle import fp32_copy
from rewards.likelihood.rounding import largest_difference, rms_difference, rounded_otherwise
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.types import Likelihood, ScoreRequest

MakeModel = Callable[..., PreTrainedModel]
MakeRequest = Callable[..., ScoreRequest]


@pytest.fixture(scope="session")
def requests(make_request: MakeRequest) -> list[ScoreRequest]:
    """Two episodes with three attempts each and their baselines."""
    return [
        make_request(140, n, 20, seed=n, episode=episode)
        for episode in (0, 1)
        for n in (0, 5, 9, 30)
    ]


def test_noise_by_pencil(make_family: MakeModel, requests: list[ScoreRequest]) -> None:
    oracle = DenseScorer(make_family("llama"))
    exact = dict(zip(requests, oracle.score(requests), strict=True))

    class Drifting:
        """Costs each token 0.001 nats too much where requests come together, 0.002 alone."""

        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            more = 0.001 if len(requests) > 1 else 0.002
            costs = [tuple(c + more for c in exact[r].token_nll) for r in requests]
            return [Likelihood(sum(cost), cost) for cost in costs]

    noise = measure_noise(Drifting(), oracle, torch.float32, requests)
    # 100 (e^0.001 - 1) points; the other order changes nothing, so the mean is half of it.
    assert noise.largest_regrouped == pytest.approx(0.1, rel=1e-3)
    assert noise.mean_regrouped == pytest.approx(0.05, rel=1e-3)
    assert noise.largest_against_oracle == pytest.approx(0.1, rel=1e-3)
    assert noise.oracle_dtype == "float32"


def test_in_fp32_the_noise_is_a_millionth_of_a_tier(
    make_family: MakeModel, requests: list[ScoreRequest]
) -> None:
    model = make_family("llama")
    scorer, oracle = SharedPrefixScorer(model), DenseScorer(model)
    noise = measure_noise(scorer, oracle, torch.float32, requests)
    # Measured: 5e-5 points; the first published tier begins at 0.05.
    assert noise.largest < 1e-3


def test_in_bfloat16_the_oracle_is_a_copy_in_fp32(
    make_family: MakeModel, requests: list[ScoreRequest]
) -> None:
    model = make_family("llama", initializer_range=0.02).to(torch.bfloat16)
    exact = fp32_copy(model)
    assert exact is not None and exact.dtype == torch.float32
    noise = measure_noise(SharedPrefixScorer(model), DenseScorer(exact), exact.dtype, requests)
    assert noise.oracle_dtype == "float32"
    assert model.dtype == torch.bfloat16
    assert noise.largest_against_oracle > 1e-3


def test_the_line_says_whether_the_noise_is_far_below_the_threshold() -> None:
    noise = Noise(0.001, 0.0005, 0.004, 0.002, "float32")
    line, is_far_below = noise_line(noise, 0.05)
    assert is_far_below
    assert line == (
        "scoring noise: 0.004 points at most (order and batch 0.0005 on average, against the dense "
        "scorer in float32 0.002), far below the reward's first threshold of 0.05"
    )
    # 0.004 is more than a tenth of 0.03.
    line, is_far_below = noise_line(noise, 0.03)
    assert not is_far_below
    assert line.endswith(
        "NOT far below the reward's first threshold of 0.03; "
        "load the generator in float32, or raise the threshold"
    )


def test_without_a_threshold_there_is_nothing_to_compare() -> None:
    line, is_far_below = noise_line(Noise(0.1, 0.1, 0.1, 0.1, "float32"), None)
    assert is_far_below
    assert "threshold" not in line


def test_differences_by_pencil() -> None:
    found = [Likelihood(3.0, (1.0, 2.0)), Likelihood(1.0, (1.0,))]
    expected = [Likelihood(4.0, (1.0, 3.0)), Likelihood(3.0, (3.0,))]
    assert largest_difference(found, expected) == 2.0
    assert rms_difference(found, expected) == pytest.approx(math.sqrt(5 / 3))


def test_rounding_otherwise_lasts_as_long_as_its_block(
    make_family: MakeModel, requests: list[ScoreRequest]
) -> None:
    oracle = DenseScorer(make_family("llama"))
    before = oracle.score(requests)
    with rounded_otherwise(oracle.model):
        assert 0 < largest_difference(oracle.score(requests), before) < 1e-4
    assert oracle.score(requests) == before
