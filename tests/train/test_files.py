"""What is copied is there whole, or not at all."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from train.files import append_line, copy_folder, write_text


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


@pytest.mark.parametrize("write", [write_text, append_line])
def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "told"
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError) as told:
            write(path, "more than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (told.value.filename, told.value.errno) == (str(path), errno.EFBIG)
