"""An evaluation that is killed goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from train.journal import Journal

SCRIPT = Path(__file__).with_name("resumable_evaluation.py")


def start(folder: Path, seconds_per_batch: float) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(seconds_per_batch)])


def kept_batches(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("journal/*.jsonl"))


@pytest.mark.timeout(300)
def test_an_evaluation_survives_a_kill_and_scores_nothing_twice(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(killed, 0.2)
    deadline = time.monotonic() + 120
    while kept_batches(killed) < 8 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = kept_batches(killed)
    assert not (killed / "evaluation.json").exists()

    both = [start(killed, 0.0), start(whole, 0.0)]
    assert [process.wait() for process in both] == [0, 0]
    assert (killed / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
    # 24 episodes in batches of four: the agent, four rows of plans, and no context.
    assert 8 <= kept < kept_batches(killed) == 6 * (1 + 4 + 1)
    answered = Counter((killed / "answered.txt").read_text().splitlines())
    assert len(answered) == 24 and set(answered.values()) == {1}
    # A plan was scored once; of the batch at work when the kill came, at most the four episodes
    # twice, and baselines, which are the likelihood store's to keep, once for each process.
    lines = (killed / "scored.txt").read_text().splitlines()
    expected = (whole / "scored.txt").read_text().splitlines()
    again = Counter(lines) - Counter(expected)
    baselines = 24
    assert sum(again.values()) <= 4 + baselines


def test_a_line_that_a_kill_cut_short_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"generator": "a"})
    journal.keep({"batch": 1}, [1.5])
    assert journal.path is not None
    with journal.path.open("a") as file:
        file.write('{"key": "torn')
    again = Journal(tmp_path, {"generator": "a"})
    assert again.get({"batch": 1}) == [1.5]
    again.keep({"batch": 2}, [2.5])
    assert Journal(tmp_path, {"generator": "a"}).get({"batch": 2}) == [2.5]


def test_another_checkpoint_or_another_generator_is_another_entry(tmp_path: Path) -> None:
    Journal(tmp_path, {"generator": "a"}).keep({"agent": "a"}, [1.0])
    assert Journal(tmp_path, {"generator": "a"}).get({"agent": "b"}) is None
    assert Journal(tmp_path, {"generator": "b"}).get({"agent": "a"}) is None


def test_without_a_folder_nothing_is_kept() -> None:
    journal = Journal(None, {})
    journal.keep({"batch": 1}, [1.0])
    assert journal.get({"batch": 1}) is None
