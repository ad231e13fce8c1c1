"""A hang is told from a slow step by whether any process moves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.jobs.heartbeat import HangWatch, beat_path, read_beat
from train.files import write_json

# Ends when its parent closes the pipe; `{body}` is what the main thread does until then.
PROGRAM = """
import sys, threading, time
from pathlib import Path
from launch.jobs.heartbeat import Heartbeat
Heartbeat(Path(sys.argv[1]), 0.05).start()
{body}
"""
STANDING = "threading.Event().wait(60)"
SLOW = """
def digit(number):
    return sum(i % 7 for i in range(number % 1000))
started = time.monotonic()
while time.monotonic() - started < 60:
    digit(int(time.monotonic() * 1000))
"""


Beats = list[dict[str, object]]
SECONDS_TO_SPEAK = 60


def beats_of(body: str, path: Path, is_enough: Callable[[Beats], bool]) -> Beats:
    """What a process says of itself, each word once, until it is enough."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body), str(path)])
    try:
        found: Beats = []

        def has_said_enough() -> bool:
            beat = read_beat(path)
            if beat is not None and beat not in found[-1:]:
                found.append(beat)
            return is_enough(found)

        wait_until(has_said_enough)
        return found
    finally:
        process.kill()
        process.wait()


def wait_until(is_reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SECONDS_TO_SPEAK
    while not is_reached():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_process_that_stands_says_for_how_long_and_where(tmp_path: Path) -> None:
    def stands(beats: Beats) -> bool:
        return bool(beats) and float(str(beats[-1]["still_s"])) > 0.8

    last = beats_of(STANDING, tmp_path / "beat.json", stands)[-1]
    assert "(wait)" in str(last["at"])


def test_a_slow_process_moves(tmp_path: Path) -> None:
    def moves(beats: Beats) -> bool:
        # One that stands has stood for longer with each beat.
        return len(beats) >= 10 and float(str(beats[-1]["still_s"])) < 0.5

    assert len(beats_of(SLOW, tmp_path / "beat.json", moves)) >= 10


def say(folder: Path, rank: int, beat: int, still_s: float) -> None:
    path = beat_path(folder, rank)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"beat": beat, "still_s": still_s, "at": "gloo.py:1 (wait)"})


def test_a_run_hangs_when_all_stand_still_and_not_while_one_moves(tmp_path: Path) -> None:
    watch = HangWatch(tmp_path, 2, hang_after_s=100)
    say(tmp_path, 0, 1, 500.0)
    say(tmp_path, 1, 1, 2.0)
    assert watch.hung() is None
    say(tmp_path, 1, 2, 101.0)
    line = watch.hung()
    assert line is not None and "rank 0 at gloo.py:1 (wait)" in line
    assert line.startswith("no process has moved for 101 s (launch.hang_after_s)")


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_clock_that_jumps_makes_no_hang_and_hides_none(tmp_path: Path, days: int) -> None:
    watch = HangWatch(tmp_path, 1, hang_after_s=100)
    for number, still_s in ((1, 2.0), (2, 3.0)):
        say(tmp_path, 0, number, still_s)
        # What the clocks of a node and of its disk say of the beat.
        there = time.time() + days * 86400
        os.utime(beat_path(tmp_path, 0), (there, there))
        assert watch.hung() is None
    say(tmp_path, 0, 3, 101.0)
    assert watch.hung() is not None


def test_a_process_that_falls_silent_counts_as_one_that_stands(tmp_path: Path) -> None:
    watch = HangWatch(tmp_path, 1, hang_after_s=0.2)
    say(tmp_path, 0, 7, 0.0)
    assert watch.hung() is None
    wait_until(lambda: watch.hung() is not None)
    say(tmp_path, 0, 8, 0.0)
    assert watch.hung() is None


def test_a_process_that_never_spoke_is_given_as_long(tmp_path: Path) -> None:
    watch = HangWatch(tmp_path, 1, hang_after_s=0.2)
    assert watch.hung() is None
    wait_until(lambda: watch.hung() is not None)
