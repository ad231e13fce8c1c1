"""The one formula, by pencil."""

from __future__ import annotations

import math

import pytest

from rewards.improvement import improvement_percent
from rewards.types import Likelihood


def likelihood(*token_nll: float) -> Likelihood:
    return Likelihood(sum(token_nll), token_nll)


def test_halving_the_perplexity_is_an_improvement_of_fifty_per_cent() -> None:
    # Two tokens at probability 1/4, then at 1/2: perplexity falls from 4 to 2.
    baseline, better = likelihood(*[math.log(4)] * 2), likelihood(*[math.log(2)] * 2)
    assert improvement_percent(better, baseline) == pytest.approx(50.0, abs=1e-12)
    assert improvement_percent(baseline, better) == pytest.approx(-100.0, abs=1e-12)


def test_only_the_sum_counts_not_where_it_was_gained() -> None:
    # 0.2 nats over four tokens are 0.05 a token: 100 (1 - e^-0.05) = 4.877 %.
    baseline = likelihood(1.0, 1.0, 1.0, 1.0)
    for better in (likelihood(0.8, 1.0, 1.0, 1.0), likelihood(0.95, 0.95, 0.95, 0.95)):
        assert improvement_percent(better, baseline) == pytest.approx(4.877057549928599, abs=1e-9)


def test_equal_likelihoods_improve_by_exactly_zero() -> None:
    value = improvement_percent(likelihood(1.1, 2.2), likelihood(1.1, 2.2))
    assert value == 0.0
    assert math.copysign(1, value) == 1


def test_a_small_gain_is_not_lost_to_rounding() -> None:
    # A hundred thousandth of a nat over 10,000 tokens: 1e-9 nats a token, 1e-7 per cent.
    baseline = Likelihood(30_000.0, (3.0,) * 10_000)
    better = Likelihood(30_000.0 - 1e-5, (3.0,) * 10_000)
    assert improvement_percent(better, baseline) == pytest.approx(1e-7, rel=1e-3)


def test_likelihoods_over_different_tokens_are_not_compared() -> None:
    with pytest.raises(ValueError, match="the same gold tokens; got 1 and 2"):
        improvement_percent(likelihood(1.0), likelihood(1.0, 1.0))
