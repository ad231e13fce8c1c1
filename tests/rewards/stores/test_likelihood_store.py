"""Likelihoods on disk: bit for bit, for many processes at once, and none from a damaged file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewards.stores.likelihood_store import DiskLikelihoodStore, MemoryLikelihoodStore
from rewards.types import Likelihood, ScoreRequest

KEY = {"weights": "ab12", "dtype": "float32"}
REQUEST = ScoreRequest("book/1", (1, 2), (3,), (4, 5))
# Numbers that no short decimal names.
LIKELIHOOD = Likelihood(0.1 + 0.2, (1 / 3, 2**-1074))


def entry_of(store: DiskLikelihoodStore, request: ScoreRequest) -> Path:
    name = request.digest.hex()
    return store.folder / name[:2] / name[2:]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_was_added_is_found_and_nothing_else(kind: str, tmp_path: Path) -> None:
    store = MemoryLikelihoodStore() if kind == "memory" else DiskLikelihoodStore(tmp_path, KEY)
    unknown = ScoreRequest("book/2", (1, 2), (3,), (4,))
    store.add({REQUEST: LIKELIHOOD})
    assert store.lookup([REQUEST, unknown]) == {REQUEST: LIKELIHOOD}


def test_a_later_store_gives_back_every_bit(tmp_path: Path) -> None:
    DiskLikelihoodStore(tmp_path, KEY).add({REQUEST: LIKELIHOOD})
    assert DiskLikelihoodStore(tmp_path, KEY).lookup([REQUEST]) == {REQUEST: LIKELIHOOD}


def test_another_generator_finds_nothing(tmp_path: Path) -> None:
    DiskLikelihoodStore(tmp_path, KEY).add({REQUEST: LIKELIHOOD})
    for key in ({**KEY, "dtype": "bfloat16"}, {**KEY, "template": "c3"}, {"weights": "ab12"}):
        assert DiskLikelihoodStore(tmp_path, key).lookup([REQUEST]) == {}


def test_a_request_is_its_tokens_and_which_of_them_are_scored(tmp_path: Path) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    store.add({REQUEST: LIKELIHOOD})
    renamed = ScoreRequest("book/9", (1,), (2, 3), (4, 5))
    one_token_more = ScoreRequest("book/1", (1, 2), (), (3, 4, 5))
    assert store.lookup([renamed, one_token_more]) == {renamed: LIKELIHOOD}


@pytest.mark.parametrize("place", [0, 30, 60, -1])
def test_a_flipped_bit_is_noticed_and_mended(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    store.add({REQUEST: LIKELIHOOD})
    content = bytearray(entry_of(store, REQUEST).read_bytes())
    content[place] ^= 1
    entry_of(store, REQUEST).write_bytes(content)
    assert store.lookup([REQUEST]) == {}
    assert [r.message for r in caplog.records] == [
        f"{entry_of(store, REQUEST)} is damaged; its likelihood is computed again"
    ]
    store.add({REQUEST: LIKELIHOOD})
    assert store.lookup([REQUEST]) == {REQUEST: LIKELIHOOD}


@pytest.mark.parametrize("num_bytes", [0, 10, 40, 70])
def test_a_half_written_file_counts_as_missing(tmp_path: Path, num_bytes: int) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    store.add({REQUEST: LIKELIHOOD})
    entry = entry_of(store, REQUEST)
    entry.write_bytes(entry.read_bytes()[:num_bytes])
    assert store.lookup([REQUEST]) == {}


def test_a_file_in_the_place_of_another_counts_as_missing(tmp_path: Path) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    other = ScoreRequest("book/2", (7,), (), (8, 9))
    store.add({REQUEST: LIKELIHOOD, other: LIKELIHOOD})
    entry_of(store, other).write_bytes(entry_of(store, REQUEST).read_bytes())
    assert store.lookup([other]) == {}


@pytest.mark.parametrize("in_its_place", ["folder", "nothing"])
def test_what_cannot_be_kept_or_read_is_logged_and_does_not_end_the_run(
    tmp_path: Path, in_its_place: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    entry = entry_of(store, REQUEST)
    if in_its_place == "folder":
        entry.mkdir(parents=True)
    else:
        # The folder of the entry is no folder: nothing can be written there.
        entry.parent.write_text("mine")
    store.add({REQUEST: LIKELIHOOD})
    assert store.lookup([REQUEST]) == {}
    kept, read = [record.message for record in caplog.records]
    assert kept.startswith("likelihoods are not kept: ")
    assert read.endswith("; its likelihood is computed again")
    assert [path.name for path in store.folder.iterdir() if path.name[0] == "."] == []


def test_a_cache_that_was_deleted_fills_again(tmp_path: Path) -> None:
    store = DiskLikelihoodStore(tmp_path, KEY)
    shutil.rmtree(tmp_path)
    store.add({REQUEST: LIKELIHOOD})
    assert store.lookup([REQUEST]) == {REQUEST: LIKELIHOOD}


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file; likelihoods are kept in a folder"):
        DiskLikelihoodStore(tmp_path / "file", KEY)
    assert (tmp_path / "file").read_text() == "mine"


# Writes without end what REQUEST number i costs, each a likelihood of 2,000 tokens, and reads.
WRITER = """
import sys
from pathlib import Path
from rewards.stores.likelihood_store import DiskLikelihoodStore
from rewards.types import Likelihood, ScoreRequest

store = DiskLikelihoodStore(Path(sys.argv[1]), {"weights": "ab12", "dtype": "float32"})
requests = [ScoreRequest(f"book/{i}", (i,), (), (1,) * 2000) for i in range(40)]
for round in range(int(sys.argv[2])):
    for i, request in enumerate(requests):
        store.add({request: Likelihood(float(i), (float(i),) * 2000)})
    for request, found in store.lookup(requests).items():
        assert found.nll == request.prefix_ids[0] == found.token_nll[-1]
    if round == 0:
        print("writing", flush=True)
"""
WRITTEN = [ScoreRequest(f"book/{i}", (i,), (), (1,) * 2000) for i in range(40)]


def start_writer(folder: Path, rounds: int, repository: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(rounds)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_many_processes_write_and_read_at_once(tmp_path: Path, repository: Path) -> None:
    writers = [start_writer(tmp_path, 5, repository) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    for writer in writers:
        writer.communicate()
    found = DiskLikelihoodStore(tmp_path, KEY).lookup(WRITTEN)
    assert [found[request].nll for request in WRITTEN] == list(range(40))


def test_a_writer_killed_at_any_moment_leaves_a_usable_store(
    tmp_path: Path, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for delay_s in (0.0, 0.003, 0.007):
        writer = start_writer(tmp_path, 1_000_000, repository)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        store = DiskLikelihoodStore(tmp_path, KEY)
        found = store.lookup(WRITTEN)
        assert [found[request].nll for request in WRITTEN] == list(range(40))
        store.add({REQUEST: LIKELIHOOD})
        assert store.lookup([REQUEST]) == {REQUEST: LIKELIHOOD}
    assert not caplog.records
