"""From the improvement to the reward."""

from __future__ import annotations

import pytest

from rewards.shaping import Clipped, Raw, Tiers, first_threshold


@pytest.mark.parametrize(
    ("improvement", "reward"),
    [
        (-50.0, 0.0),
        (0.0, 0.0),
        (0.0499, 0.0),
        (0.05, 0.5),
        (0.999, 0.5),
        (1.0, 0.9),
        (1.999, 0.9),
        (2.0, 1.0),
        (99.0, 1.0),
    ],
)
def test_a_published_tier_begins_at_its_threshold(improvement: float, reward: float) -> None:
    assert Tiers()(improvement) == reward


def test_raw_is_the_improvement_and_clipped_is_never_negative() -> None:
    assert [Raw()(i) for i in (-2.5, 0.0, 3.5)] == [-2.5, 0.0, 3.5]
    assert [Clipped()(i) for i in (-2.5, 0.0, 3.5)] == [0.0, 0.0, 3.5]


@pytest.mark.parametrize("thresholds", [(1.0, 0.5), (1.0, 1.0)])
def test_thresholds_that_do_not_rise_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"reward\.shaping\.thresholds must rise; got \["):
        Tiers(thresholds, (0.5, 1.0))


def test_every_threshold_has_a_value() -> None:
    with pytest.raises(ValueError, match="one value per threshold; got 1 for 2"):
        Tiers((1.0, 2.0), (0.5,))


def test_the_first_threshold_is_where_a_stepped_shaping_begins_to_pay() -> None:
    assert first_threshold(Tiers()) == 0.05
    assert first_threshold(Raw()) is first_threshold(Clipped()) is None
