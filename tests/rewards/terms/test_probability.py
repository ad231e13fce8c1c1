"""Probability: the gain in mean token probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rewards.terms.probability import Probability
from rewards.types import Measured

Make = Callable[..., Measured]
HALF, QUARTER = math.log(2), math.log(4)


def test_the_value_is_the_difference_of_mean_token_probabilities(measured: Make) -> None:
    # (1/2 + 1) / 2 - (1/4 + 1/2) / 2
    assert Probability()([measured([HALF, 0.0], [QUARTER, HALF])]) == pytest.approx([0.375])


def test_a_plan_that_harms_is_worth_zero(measured: Make) -> None:
    assert Probability()([measured([QUARTER], [HALF])]) == [0.0]


def test_an_empty_plan_is_worth_exactly_zero(measured: Make) -> None:
    assert Probability()([measured([0.3, 7.1], [0.3, 7.1], 0)]) == [0.0]


def test_a_token_that_stays_improbable_hardly_counts_though_it_rules_the_improvement(
    measured: Make,
) -> None:
    # From e^-12 to e^-6: six nats of improvement, a probability of a quarter of a per cent.
    (rare,) = [measured([6.0], [12.0])]
    assert rare.improvement > 99
    assert Probability()([rare])[0] == pytest.approx(math.exp(-6), rel=0.01)
