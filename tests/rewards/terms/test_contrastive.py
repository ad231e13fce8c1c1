"""Contrastive: what a plan does to the true chapter, less what it does to any chapter."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rewards.terms.contrastive import Contrastive
from rewards.types import Measured

Make = Callable[..., Measured]
HALVED = ([2.0 - math.log(2)], [2.0])  # an improvement of 50 %
QUARTERED = ([2.0 - math.log(4)], [2.0])  # 75 %
DOUBLED = ([2.0 + math.log(2)], [2.0])  # -100 %
UNMOVED = ([2.0], [2.0])


def test_the_mean_improvement_on_other_chapters_is_taken_off(measured: Make) -> None:
    group = [measured(*QUARTERED, others=[HALVED, UNMOVED])]
    assert Contrastive()(group) == pytest.approx([75 - (50 + 0) / 2])


def test_a_plan_that_fits_every_chapter_is_worth_nothing(measured: Make) -> None:
    assert Contrastive()([measured(*HALVED, others=[HALVED, HALVED])]) == [0.0]


def test_harm_to_other_chapters_is_paid_down_to_the_floor(measured: Make) -> None:
    group = [measured(*HALVED, others=[DOUBLED, UNMOVED])]
    assert Contrastive(floor=-10)(group) == pytest.approx([50 + (10 + 0) / 2])
    assert Contrastive(floor=-1000)(group) == pytest.approx([50 + (100 + 0) / 2])
    assert Contrastive(floor=0)(group) == pytest.approx([50])


def test_an_empty_plan_is_worth_exactly_zero(measured: Make) -> None:
    assert Contrastive()([measured(*UNMOVED, others=[UNMOVED, UNMOVED])]) == [0.0]


def test_each_contrast_uses_as_many_distractors_as_it_asks_for(measured: Make) -> None:
    group = [measured(*QUARTERED, others=[HALVED, UNMOVED])]
    assert Contrastive(num_distractors=1)(group) == pytest.approx([75 - 50])
