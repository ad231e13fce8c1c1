"""The parts of a step, on a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from envs.types import Rollout
from train.step_times import StepTimes, TimedReward


class Watch:
    """Tells the times that it was given, one after the other."""

    def __init__(self, *times: float) -> None:
        self._times: Iterator[float] = iter(times)

    def __call__(self) -> float:
        return next(self._times)


def paid(rollouts: Sequence[Rollout]) -> list[Any]:
    return ["scored"] * len(rollouts)


def test_a_step_is_divided_at_each_call_of_the_reward() -> None:
    # begin; arrived, asked, scored; the same again; end.
    times = StepTimes(Watch(10.0, 14.0, 14.5, 16.5, 19.5, 19.5, 20.5, 25.0))
    reward = TimedReward(paid, times)
    times.begin()
    nothing: Any = [None]
    assert reward(nothing) == reward(nothing) == ["scored"]
    times.end()
    assert times.metrics == pytest.approx(
        # 4 until the first answers, 3 until the second; 0.5 waiting; 2 + 1 scoring; 4.5 after it.
        {
            **{"time/rollout": 7.0, "time/waiting": 0.5, "time/scoring": 3.0},
            **{"time/update": 4.5, "time/outside": 0.0},
        }
    )
    assert times.step_s == pytest.approx(25.0 - 10.0)


def test_a_step_that_scores_nothing_is_all_update_and_what_lies_between_is_outside() -> None:
    times = StepTimes(Watch(0.0, 1.0, 4.0, 6.0))
    times.begin()
    times.end()
    times.begin()
    times.end()
    assert (times.metrics["time/update"], times.metrics["time/outside"]) == (2.0, 3.0)
    assert times.metrics["time/rollout"] == times.metrics["time/scoring"] == 0.0


def test_before_a_step_nothing_was_measured() -> None:
    times = StepTimes(Watch(0.0, 1.0, 2.0))
    assert TimedReward(paid, times)([]) == []
    assert times.metrics == {}
