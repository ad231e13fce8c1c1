"""Bounds warn at once and stop a run only when they are kept broken."""

from __future__ import annotations

import pytest

from train.monitors.limits import Limits, alarms
from train.schema import MonitorConfig

BOUNDS = Limits(warn_below=1.0, warn_above=2.0, stop_below=0.5, stop_above=4.0)


@pytest.mark.parametrize(
    ("value", "bound", "verdict"),
    [
        (1.0, None, "ok"),
        (2.0, None, "ok"),
        (0.9, "warn_below", "warn"),
        (2.1, "warn_above", "warn"),
        (0.5, "warn_below", "warn"),
        (0.4, "stop_below", "stop"),
        (4.1, "stop_above", "stop"),
    ],
)
def test_a_bound_is_exceeded_beyond_it(value: float, bound: str | None, verdict: str) -> None:
    assert (BOUNDS.exceeded(value), BOUNDS.verdict(value)) == (bound, verdict)


def test_a_run_stops_after_as_many_probes_in_a_row_as_patience_says() -> None:
    limits = {"gold_overlap": BOUNDS}

    def is_stop(*values: float) -> list[bool]:
        return [a.is_stop for a in alarms([{"gold_overlap": v} for v in values], limits, 2)]

    assert is_stop(5.0) == [False]
    assert is_stop(5.0, 5.0) == [True]
    assert is_stop(5.0, 0.1) == [True]
    assert is_stop(5.0, 3.0, 5.0) == [False]
    assert is_stop(5.0, 5.0, 3.0) == [False]
    assert is_stop(5.0, 5.0, 1.5) == []


def test_a_probe_that_could_not_measure_breaks_the_row() -> None:
    probes = [{"gold_overlap": 5.0}, {}, {"gold_overlap": 5.0}]
    assert not alarms(probes, {"gold_overlap": BOUNDS}, 2)[0].is_stop
    assert alarms([], {"gold_overlap": BOUNDS}, 1) == alarms([{}], {}, 1) == []


def test_what_stops_is_named_before_what_warns_with_its_remedy() -> None:
    probes = [{"truncated": 0.6, "length_reward_correlation": 0.97}]
    limits = {
        "truncated": Limits(warn_above=0.5),
        "length_reward_correlation": Limits(stop_above=0.9),
    }
    first, second = alarms(probes, limits, 1)
    assert (first.name, first.is_stop, second.is_stop) == (
        "length_reward_correlation",
        True,
        False,
    )
    assert first.line.startswith("monitor length_reward_correlation = 0.97, above 0.9 (correlation")
    assert "; add rewards.terms.length.Length" in first.line


def test_a_bound_on_no_monitor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"monitors\.limits\.entropi: .* did you mean 'entropy'\?"):
        MonitorConfig(limits={"entropi": BOUNDS})
