"""Which files a list of paths means: folders are walked, names are checked, order is fixed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from envs.books.errors import BookError
from envs.books.hub import PREFIX, is_saved_dataset

SUFFIXES = (".epub", ".txt", ".jsonl")


def find_sources(paths: Sequence[str | Path]) -> list[str]:
    """Files and datasets in the given order, those of a folder sorted; none twice."""
    if not paths:
        raise BookError("books", "no path was given", "Name files or folders that hold books")
    found: dict[str, str] = {}
    for path in paths:
        for source in _expand(path):
            identity = source if source.startswith(PREFIX) else os.path.realpath(source)
            found.setdefault(identity, source)
    return list(found.values())


def _expand(path: str | Path) -> Iterator[str]:
    if str(path).startswith(PREFIX):
        yield str(path)
        return
    path = Path(path).expanduser()
    if is_saved_dataset(path):
        yield f"{PREFIX}{path}"
    elif path.is_dir():
        yield from _walk(path)
    elif not path.exists():
        raise BookError(path, "there is no such file or folder", "Check the path")
    elif path.suffix.lower() not in SUFFIXES:
        raise BookError(
            path,
            f"files of type {path.suffix or 'none'!r} are not supported",
            f"Supported: {', '.join(SUFFIXES)}, and 'hf:<name or path>' for datasets",
        )
    else:
        yield str(path)


def _walk(folder: Path) -> list[str]:
    files: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [
            str(Path(root, name))
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not files:
        raise BookError(
            folder, "this folder holds no books", f"Put {', '.join(SUFFIXES)} files into it"
        )
    return sorted(files)
