"""Format and length: what an answer looks like, whatever it is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envs.types import PlanStatus
from rewards.terms.format import Format
from rewards.terms.length import Length
from rewards.types import Measured

Make = Callable[..., Measured]


def test_an_answer_has_the_form_if_it_is_whole_and_matches(measured: Make) -> None:
    def value(answer: str, status: PlanStatus = PlanStatus.COMPLETE) -> float:
        return Format(r"\w.*In summary:")([measured([1.0], [1.0], answer=answer, status=status)])[0]

    assert value("Ann owes Bob.\nIn summary: Ann pays.") == 1.0
    assert value("In summary: Ann pays.") == 0.0
    assert value("Ann owes Bob.\nIn summary: Ann", PlanStatus.TRUNCATED) == 0.0


def test_without_a_pattern_any_whole_answer_has_the_form(measured: Make) -> None:
    group = [measured([1.0], [1.0], status=status) for status in PlanStatus]
    assert Format()(group) == [float(status is PlanStatus.COMPLETE) for status in PlanStatus]


def test_a_pattern_is_a_regular_expression() -> None:
    with pytest.raises(ValueError, match=r"pattern: '\(' is not a regular expression"):
        Format("(")


def test_a_plan_costs_nothing_up_to_the_free_length_and_one_from_the_limit_on(
    measured: Make,
) -> None:
    group = [measured([1.0], [1.0], tokens) for tokens in (0, 20, 25, 40, 90)]
    assert Length(free_tokens=20, limit_tokens=40)(group) == [0.0, 0.0, -0.25, -1.0, -1.0]


def test_the_limit_exceeds_the_free_length() -> None:
    with pytest.raises(ValueError, match="limit_tokens must exceed free_tokens = 40; got 40"):
        Length(free_tokens=40, limit_tokens=40)
