"""Two real processes of one command: one acts for all, and one says what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train import ranks

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes worked and wrote what they saw."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert (folder / "0.json").exists() and (folder / "1.json").exists(), done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_the_main_process_creates_the_run_folder_and_the_other_uses_it(
    seen: list[dict[str, Any]], folder: Path
) -> None:
    assert [s["folders"]["path"] for s in seen] == [str(folder / "run")] * 2
    assert [s["folders"]["seed"] for s in seen] == [0, 0]


def test_what_the_main_process_is_refused_is_raised_in_all(seen: list[dict[str, Any]]) -> None:
    for s in seen:
        kind, text = s["folders"]["second_start"]
        assert kind == "ValueError" and "run: holds a run already; go on with it" in text
        kind, text = s["folders"]["missing"]
        assert kind in ("OSError", "FileNotFoundError") and "gone: no such run folder" in text


def test_a_stage_is_made_together_and_kept_once(seen: list[dict[str, Any]]) -> None:
    assert [s["kept"]["times_made"] for s in seen] == [1, 1]
    entries = [entry for s in seen for entry in s["kept"]["entries"]]
    assert len(set(entries)) == 1
    assert Path(entries[0], "weights").read_text() == "made"


def test_what_members_were_paid_is_added_up_over_processes_and_written_once(
    seen: list[dict[str, Any]], folder: Path
) -> None:
    # One request of the first process and two of the second, of ten tokens each.
    written = json.loads((folder / "run" / "members.json").read_text())["served"]
    assert (written["requests"], written["read_tokens"], written["money"]) == (3, 30, 30.0)
    assert [s["members"] for s in seen] == [written] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_the_process_that_fails_first_speaks_for_all(
    seen: list[dict[str, Any]], folder: Path, failing: int
) -> None:
    # The other process is not refused anything: it crashes for want of the first.
    assert [s[f"status_{failing}"] for s in seen] == [2 if r == failing else 1 for r in range(2)]
    lines = [line for rank in range(2) for line in (folder / f"{rank}.err").read_text().split("\n")]
    about = [line for line in lines if f"fail{failing}:" in line]
    assert about == [f"nextchapter fail{failing}: rank {failing}: has no books; give it some"]


def test_one_process_alone_asks_nobody() -> None:
    assert ranks.is_main()
    assert ranks.from_main(lambda: "mine") == "mine"
    assert ranks.summed([1, 2.5]) == [1, 2.5]
    assert ranks.first_to_say("train")
