"""A hang is told from a slow step by whether any process moves."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

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


def beats_of(body: str, path: Path) -> list[dict[str, object]]:
    """What a process says of itself in a second and a half."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body), str(path)])
    try:
        give_up = time.monotonic() + 30
        while read_beat(path) is None:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        found = []
        for _ in range(15):
            time.sleep(0.1)
            found.append(read_beat(path))
        return [beat for beat in found if beat]
    finally:
        process.kill()
        process.wait()


def test_a_process_that_stands_says_for_how_long_and_where(tmp_path: Path) -> None:
    last = beats_of(STANDING, tmp_path / "beat.json")[-1]
    assert float(str(last["still_s"])) > 0.8
    assert "(wait)" in str(last["at"])


def test_a_slow_process_moves(tmp_path: Path) -> None:
    still = [float(str(beat["still_s"])) for beat in beats_of(SLOW, tmp_path / "beat.json")]
    assert sorted(still)[len(still) // 2] < 0.5


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


def test_a_process_that_falls_silent_counts_as_one_that_stands(tmp_path: Path) -> None:
    watch = HangWatch(tmp_path, 1, hang_after_s=0.2)
    say(tmp_path, 0, 7, 0.0)
    assert watch.hung() is None
    time.sleep(0.3)
    assert watch.hung() is not None
    say(tmp_path, 0, 8, 0.0)
    assert watch.hung() is None


def test_a_process_that_never_spoke_is_given_as_long(tmp_path: Path) -> None:
    watch = HangWatch(tmp_path, 1, hang_after_s=0.2)
    assert watch.hung() is None
    time.sleep(0.3)
    assert watch.hung() is not None
