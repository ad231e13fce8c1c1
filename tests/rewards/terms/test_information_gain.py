"""Information gain: nats per plan token."""

from __future__ import annotations

from collections.abc import Callable

from rewards.terms.information_gain import InformationGain
from rewards.types import Measured

Make = Callable[..., Measured]


def test_the_gain_in_nats_is_shared_by_the_tokens_of_the_plan(measured: Make) -> None:
    # 3 + 2 nats, 20 tokens.
    assert InformationGain()([measured([1.0, 2.0], [4.0, 4.0], 20)]) == [0.25]


def test_below_the_least_length_brevity_is_not_paid(measured: Make) -> None:
    group = [measured([1.0], [5.0], tokens) for tokens in (1, 8, 16)]
    assert InformationGain(min_plan_tokens=8)(group) == [0.5, 0.5, 0.25]


def test_harm_is_negative_and_an_empty_plan_is_worth_exactly_zero(measured: Make) -> None:
    group = [measured([9.0], [5.0], 16), measured([5.0], [5.0], 0)]
    assert InformationGain()(group) == [-0.25, 0.0]
