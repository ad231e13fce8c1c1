"""SIGTERM and SIGUSR1 stop a run at once, or where it suits."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from train.preemption import STOPPING, Preempted, StopSignals


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_stops_at_once_where_nothing_waits_to_be_saved(number: signal.Signals) -> None:
    with pytest.raises(Preempted, match=f"^stopped by {number.name}$"), StopSignals().installed():
        os.kill(os.getpid(), number)


def test_where_it_is_deferred_a_signal_is_noted_and_heeded_at_the_end() -> None:
    signals, done = StopSignals(), []
    with (
        pytest.raises(Preempted, match="stopped by SIGUSR1, with a checkpoint"),
        signals.installed(),
        signals.deferred(),
    ):
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append(signals.received)
    assert done == ["SIGUSR1"]


def test_an_error_is_not_hidden_by_a_signal() -> None:
    signals = StopSignals()
    with pytest.raises(ValueError, match="broken"), signals.installed(), signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("broken")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with StopSignals().installed():
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_a_thread_other_than_the_main_one_does_without() -> None:
    done = []

    def work() -> None:
        with StopSignals().installed():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
