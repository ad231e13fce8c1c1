"""How long an evaluation will still take."""

from __future__ import annotations

import pytest

from train.time_left import TimeLeft, duration


def test_each_kind_of_step_is_counted_at_its_own_pace() -> None:
    left = TimeLeft({"answers": 10, "scores": 30})
    left.did("answers", 5, 10.0)
    # Of scores nothing is known, and so nothing is promised.
    assert left.seconds is None
    left.did("scores", 5, 1.0)
    # Five answers of 2 s and 25 scores of 0.2 s.
    assert left.seconds == 5 * 2 + 25 * 0.2


def test_what_an_earlier_evaluation_did_makes_the_pace_no_faster() -> None:
    left = TimeLeft({"scores": 1000})
    left.did("scores", 900, None)
    assert left.seconds is None
    left.did("scores", 50, 100.0)
    assert (left.seconds, left.total) == (100.0, 50)
    left.did("scores", 50, 100.0)
    assert (left.seconds, left.total) == (0.0, 0)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (89, "89 s"), (200, "3 min"), (7500, "2 h 5 min")]
)
def test_durations_are_shown_in_the_unit_that_a_reader_thinks_in(
    seconds: float, shown: str
) -> None:
    assert duration(seconds) == shown
