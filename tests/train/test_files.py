"""What is copied is there whole, or not at all."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from train import ranks
from train.cache import digest
from train.files import append_line, copy_folder, file_error, write_text
from train.journal import Journal
from train.logs import JsonlSink


def test_a_copy_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, name in ((source, "new"), (target, "old")):
        folder.mkdir()
        (folder / name).write_text(name)
    copy_folder(source, target)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert (source / "new").is_file()


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_folder(tmp_path / "nowhere", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    path.write_text(path.read_text() + "cut sh")
    append_line(path, "third")
    assert path.read_text() == "first\ncut sh\nthird\n"


def log_a_step(path: Path, text: str) -> None:
    JsonlSink(path, path.parent / "tables").log(1, {"loss": 0.5})


def keep_a_batch(path: Path, text: str) -> None:
    Journal(path.parent, {}).keep({}, text)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_text, "told"),
        (append_line, "told"),
        (log_a_step, "metrics.jsonl"),
        (keep_a_batch, f"{digest({})[:32]}.jsonl"),
    ],
)
def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(
    tmp_path: Path, write: Callable[[Path, str], None], name: str
) -> None:
    path = tmp_path / name
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError) as told:
            write(path, "more than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (told.value.filename, told.value.errno) == (str(path), errno.EFBIG)
    # In the process that wrote, and in those beside it.
    line = f"{path}: file too large; make room there, then try again"
    assert file_error(told.value) == ranks._told(told.value) == line
