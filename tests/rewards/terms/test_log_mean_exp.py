"""Log-mean-exp: what each attempt adds to the group's likelihood of the chapter."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rewards.terms.log_mean_exp import LogMeanExp, log_mean_exp
from rewards.types import Measured

Make = Callable[..., Measured]


def likely(measured: Make, *probabilities: float) -> list[Measured]:
    """Attempts under which the chapter has these probabilities."""
    return [measured([-math.log(p)], [1.0]) for p in probabilities]


def test_the_value_is_the_lead_of_the_group_with_an_attempt_over_the_group_without(
    measured: Make,
) -> None:
    # The mean over all is 1/2; without each in turn it is 5/16, 5/8 and 9/16.
    group = likely(measured, 7 / 8, 1 / 4, 3 / 8)
    expected = [math.log((1 / 2) / rest) for rest in (5 / 16, 5 / 8, 9 / 16)]
    assert LogMeanExp()(group) == pytest.approx(expected)


def test_on_long_chapters_the_best_attempt_takes_all(measured: Make) -> None:
    # 60 nats lie between the first and the rest, which a sum of 100 tokens easily shows.
    group = [measured([nll], [200.0]) for nll in (100.0, 160.0, 170.0, 180.0)]
    lead = math.log(3 / 4)
    assert LogMeanExp()(group) == pytest.approx([60 + lead, lead, lead, lead])


def test_a_high_temperature_compares_with_the_mean_of_the_others(measured: Make) -> None:
    # Log-likelihoods -1, -3, -8: differences to the mean of the others, over three.
    group = [measured([nll], [9.0]) for nll in (1.0, 3.0, 8.0)]
    expected = [(-1 + 5.5) / 3, (-3 + 4.5) / 3, (-8 + 2) / 3]
    assert LogMeanExp(temperature=1e6)(group) == pytest.approx(expected, abs=1e-4)


def test_attempts_that_are_alike_add_nothing(measured: Make) -> None:
    assert LogMeanExp()(likely(measured, 0.3, 0.3, 0.3)) == pytest.approx([0.0] * 3, abs=1e-15)
    assert LogMeanExp()(likely(measured, 0.3)) == [0.0]


def test_likelihoods_too_small_for_a_float_are_no_problem() -> None:
    assert log_mean_exp([-5000.0, -5000.0]) == -5000.0
