"""Variance-weighted: tokens count by how much the attempts differ on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rewards.terms.variance_weighted import VarianceWeighted, token_weights
from rewards.types import Measured

Make = Callable[..., Measured]


def test_a_token_weighs_as_its_standard_deviation_over_the_group() -> None:
    # Deviations 1, 3 and 0.
    assert token_weights([[1.0, 2.0, 5.0], [3.0, 8.0, 5.0]]) == [0.25, 0.75, 0.0]


def test_tokens_on_which_nobody_differs_weigh_alike() -> None:
    assert token_weights([[1.0, 2.0], [1.0, 2.0]]) == [0.5, 0.5]


def test_a_gain_where_all_agree_is_worth_nothing(measured: Make) -> None:
    # Both gain 4 nats on the first token; on the second one gains 2 and the other none.
    group = [measured([1.0, 3.0], [5.0, 5.0]), measured([1.0, 5.0], [5.0, 5.0])]
    assert VarianceWeighted()(group) == [2.0, 0.0]


def test_the_weights_are_shared_by_the_group(measured: Make) -> None:
    # Deviations 1 and 3: weights 1/4 and 3/4.
    group = [measured([1.0, 2.0], [4.0, 4.0]), measured([3.0, 8.0], [4.0, 4.0])]
    assert VarianceWeighted()(group) == pytest.approx([3 / 4 + 2 * 3 / 4, 1 / 4 - 4 * 3 / 4])


def test_an_attempt_alone_is_worth_its_mean_gain_per_token(measured: Make) -> None:
    assert VarianceWeighted()([measured([1.0, 2.0], [2.0, 5.0])]) == [2.0]


def test_an_empty_plan_is_worth_exactly_zero(measured: Make) -> None:
    group = [measured([0.1, 0.7], [0.1, 0.7], 0), measured([0.3, 0.2], [0.1, 0.7])]
    assert VarianceWeighted()(group)[0] == 0.0
