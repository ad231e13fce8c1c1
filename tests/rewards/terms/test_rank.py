"""Rank: places within the group, with something for those that win briefly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rewards.terms.rank import Rank
from rewards.types import Measured

Make = Callable[..., Measured]


def attempt(measured: Make, nll: float, num_plan_tokens: int = 10) -> Measured:
    return measured([nll], [5.0], num_plan_tokens)


def test_a_rank_is_the_share_of_the_others_that_are_beaten(measured: Make) -> None:
    group = [attempt(measured, nll) for nll in (3.0, 1.0, 9.0)]
    assert Rank()(group) == [0.5, 1.0, 0.0]


def test_equals_share_their_places(measured: Make) -> None:
    group = [attempt(measured, nll) for nll in (2.0, 2.0, 4.0)]
    assert Rank()(group) == [0.75, 0.75, 0.0]
    assert Rank()([attempt(measured, 2.0)] * 4) == [0.5] * 4


def test_whoever_beats_a_longer_plan_is_paid_for_it(measured: Make) -> None:
    # The first beats both, one of them more briefly; the second beats the third, a shorter one.
    group = [attempt(measured, 1.0, 20), attempt(measured, 2.0, 30), attempt(measured, 3.0, 8)]
    assert Rank(efficiency_weight=0.5)(group) == [1 + 0.5 / 2, 0.5, 0.0]
    assert Rank(efficiency_weight=0.0)(group) == [1.0, 0.5, 0.0]


def test_brevity_alone_is_worth_nothing(measured: Make) -> None:
    group = [attempt(measured, 1.0, 40), attempt(measured, 2.0, 1)]
    assert Rank(efficiency_weight=1.0)(group) == [1.0, 0.0]


def test_an_attempt_alone_is_in_the_middle(measured: Make) -> None:
    assert Rank()([attempt(measured, 1.0)]) == pytest.approx([0.5])
