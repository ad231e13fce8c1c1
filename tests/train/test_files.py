"""What is copied is there whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.files import copy_folder


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
