"""The terms that are made of the improvement alone: raw, clipped, tiers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rewards.terms.clipped import Clipped
from rewards.terms.raw import Raw
from rewards.terms.tiers import Tiers
from rewards.types import Measured

Make = Callable[..., Measured]


def improved_by(measured: Make, percent: float) -> Measured:
    """A rollout whose plan lowers the perplexity of a chapter of one token by so much."""
    return measured([2.0 + math.log1p(-percent / 100)], [2.0])


def test_raw_is_the_improvement_and_clipped_is_never_negative(measured: Make) -> None:
    group = [improved_by(measured, percent) for percent in (-2.5, 0.0, 3.5)]
    assert Raw()(group) == pytest.approx([-2.5, 0.0, 3.5])
    assert Clipped()(group) == pytest.approx([0.0, 0.0, 3.5])


@pytest.mark.parametrize(
    ("improvement", "paid"),
    [
        (-50.0, 0.0),
        (0.0, 0.0),
        (0.0499, 0.0),
        (0.0501, 0.5),
        (0.999, 0.5),
        (1.001, 0.9),
        (1.999, 0.9),
        (2.001, 1.0),
        (99.0, 1.0),
    ],
)
def test_a_published_tier_begins_at_its_threshold(
    measured: Make, improvement: float, paid: float
) -> None:
    assert Tiers()([improved_by(measured, improvement)]) == [paid]


def test_a_tier_is_paid_from_its_threshold_on(measured: Make) -> None:
    # Half the perplexity is an improvement of exactly 50 %.
    (half,) = [measured([2.0 - math.log(2)], [2.0])]
    assert half.improvement == pytest.approx(50.0)
    assert Tiers([half.improvement], [7.0])([half]) == [7.0]


@pytest.mark.parametrize("thresholds", [(1.0, 0.5), (1.0, 1.0)])
def test_thresholds_that_do_not_rise_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"thresholds must rise; got \["):
        Tiers(thresholds, (0.5, 1.0))


def test_every_threshold_has_a_value() -> None:
    with pytest.raises(ValueError, match="one value per threshold; got 1 for 2"):
        Tiers((1.0, 2.0), (0.5,))
