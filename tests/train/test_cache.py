"""A stage is made once per content, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from train.cache import MANIFEST, Cache, digest, source_fingerprint


class Maker:
    """Writes one file and counts how often it was asked."""

    def __init__(self, text: str = "made") -> None:
        self.calls, self.text = 0, text

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "deep").mkdir()
        (folder / "deep" / "file.txt").write_text(self.text)


def test_the_same_key_is_made_once(tmp_path: Path) -> None:
    make = Maker()
    first = Cache(tmp_path).get_or_make("generator", {"seed": 1, "size": [2, 3]}, make)
    second = Cache(tmp_path).get_or_make("generator", {"size": (2, 3), "seed": 1}, make)
    assert (first, make.calls) == (second, 1)
    assert (first / "deep" / "file.txt").read_text() == "made"


def test_another_key_or_stage_is_another_entry(tmp_path: Path) -> None:
    cache, make = Cache(tmp_path), Maker()
    entries = {
        cache.get_or_make("generator", {"seed": 1}, make),
        cache.get_or_make("generator", {"seed": 2}, make),
        cache.get_or_make("generator", {"seed": "1"}, make),
        cache.get_or_make("warm_start", {"seed": 1}, make),
    }
    assert (len(entries), make.calls) == (4, 4)


def test_an_entry_says_what_it_was_made_from(tmp_path: Path) -> None:
    entry = Cache(tmp_path).get_or_make("generator", {"seed": 1}, Maker())
    manifest = json.loads((entry / MANIFEST).read_text())
    assert (manifest["stage"], manifest["key"]) == ("generator", {"seed": 1})
    assert manifest["files"] == {"deep/file.txt": 4}


def test_a_stage_that_fails_leaves_no_entry(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise ValueError("no books")

    cache = Cache(tmp_path)
    with pytest.raises(ValueError, match="no books"):
        cache.get_or_make("generator", {}, fail)
    assert not [path for path in (tmp_path / "generator").iterdir() if path.is_dir()]
    assert cache.get_or_make("generator", {}, Maker()).is_dir()


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / MANIFEST).unlink(),
        lambda entry: (entry / MANIFEST).write_text("{"),
        lambda entry: (entry / "deep" / "file.txt").unlink(),
        lambda entry: (entry / "deep" / "file.txt").write_text("mad"),
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    make = Maker()
    damage(Cache(tmp_path).get_or_make("generator", {}, make))
    entry = Cache(tmp_path).get_or_make("generator", {}, make)
    assert ((entry / "deep" / "file.txt").read_text(), make.calls) == ("made", 2)


SLOW_MAKER = """
import sys, time
from pathlib import Path
from train.cache import Cache

root, log = map(Path, sys.argv[1:])

def make(folder):
    (folder / "file.txt").write_text("half")
    with log.open("a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    (folder / "file.txt").write_text("whole")

Cache(root).get_or_make("generator", {}, make)
"""


def start_slow_maker(tmp_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW_MAKER, str(tmp_path / "cache"), str(tmp_path / "log")]
    return subprocess.Popen(command)


def test_processes_that_want_the_same_entry_make_it_once(tmp_path: Path) -> None:
    workers = [start_slow_maker(tmp_path) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_what_a_killed_process_half_made_is_never_used(tmp_path: Path) -> None:
    worker = start_slow_maker(tmp_path)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    entry = Cache(tmp_path / "cache").get_or_make("generator", {}, Maker("whole"))
    assert (entry / "deep" / "file.txt").read_text() == "whole"
    assert not (entry / "file.txt").exists()
    assert [path for path in entry.parent.iterdir() if path.is_dir()] == [entry]


def test_a_key_has_to_have_one_meaning() -> None:
    @dataclass(frozen=True)
    class Small:
        size: int = 1

    @dataclass(frozen=True)
    class Large:
        size: int = 1

    assert digest(Small()) != digest(Large())
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    for wrong in ({1: "a"}, {"a": float("nan")}, {"a": {1, 2}}, {"a": object()}):
        with pytest.raises(ValueError, match="cache key"):
            digest(wrong)


def test_a_stage_is_one_word(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without slashes"):
        Cache(tmp_path).path("../elsewhere", {})


def test_changed_source_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fingerprinted"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "part.py").write_text("a = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_fingerprint("fingerprinted")
    assert before == source_fingerprint("fingerprinted")
    (package / "part.py").write_text("a = 2")
    assert before != source_fingerprint("fingerprinted")
    assert source_fingerprint("train.cache") != source_fingerprint("train.files")
