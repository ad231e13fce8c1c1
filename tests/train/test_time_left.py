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


def test_the_pace_is_that_of_the_latter_half() -> None:
    left = TimeLeft({"scores": 100})
    for seconds in (1.0, 1.0, 5.0, 7.0):
        left.did("scores", 10, seconds)
    # Of the last 20 steps: 12 s, and 60 are to come.
    assert left.seconds == 60 * 12 / 20
    left.did("scores", 40, 4.0)
    # The last 40 of 80 steps are the latter half.
    assert left.seconds == 20 * 4 / 40


def test_what_takes_no_time_makes_the_pace_no_faster() -> None:
    left = TimeLeft({"scores": 20, "nothing": 100}, free=("nothing",))
    left.did("scores", 10, 5.0)
    assert left.seconds == 5.0
    left.did("nothing", 50, 0.001)
    assert (left.seconds, left.total) == (5.0, 60)


def test_what_had_been_done_before_is_counted() -> None:
    left = TimeLeft({"answers": 10, "scores": 30})
    left.did("answers", 10, None)
    left.did("scores", 4, None)
    left.did("scores", 6, 1.0)
    assert (left.done_before, left.planned, left.total) == (14, 40, 20)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (89, "89 s"), (200, "3 min"), (7500, "2 h 5 min")]
)
def test_durations_are_shown_in_the_unit_that_a_reader_thinks_in(
    seconds: float, shown: str
) -> None:
    assert duration(seconds) == shown
