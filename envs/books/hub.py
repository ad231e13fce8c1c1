"""Hugging Face datasets, by name or by local path; nothing in them is ever run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envs.books.errors import BookError

PREFIX = "hf:"
_SAVED_MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")
_FILE_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return path.is_dir() and any((path / mark).is_file() for mark in _SAVED_MARKS)


def read_dataset_rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of `hf:<name or path>[:split]`; without a split, those of all splits."""
    name, split = _split_source(source)
    loaded = _load(source, name, split)
    splits = loaded if isinstance(loaded, dict) else {split or "": loaded}
    for split_name, dataset in splits.items():
        for number, row in enumerate(dataset, 1):
            yield f"{split_name} row {number}".strip(), row


def _split_source(source: str) -> tuple[str, str | None]:
    name = source.removeprefix(PREFIX)
    before, colon, after = name.rpartition(":")
    if colon and before and "/" not in after and not Path(name).exists():
        return before, after or None
    return name, None


def _load(source: str, name: str, split: str | None) -> Any:
    import datasets  # takes seconds to import, and most shelves hold no dataset

    path = Path(name).expanduser()
    if not name or (name.startswith((".", "/", "~")) and not path.exists()):
        raise BookError(source, "there is no such dataset", "Check the path after 'hf:'")
    try:
        if is_saved_dataset(path):
            saved = datasets.load_from_disk(str(path))
            return saved if split is None else _pick(source, saved, split)
        if path.is_file():
            kind = _FILE_FORMATS.get(path.suffix.lower())
            if kind is None:
                raise BookError(
                    source, "not a dataset file", f"Supported: {', '.join(_FILE_FORMATS)}"
                )
            return datasets.load_dataset(kind, data_files=str(path), split=split)
        with _hushed("huggingface_hub"):
            return datasets.load_dataset(str(path) if path.exists() else name, split=split)
    except BookError:
        raise
    # Hub, HTTP, Arrow and file readers each raise types of their own; all mean the same here.
    except Exception as error:
        raise BookError(
            source,
            f"this dataset cannot be loaded ({type(error).__name__}: {error})",
            "Check its name and split, and that the network or a local copy can be reached",
        ) from error


def _pick(source: str, saved: Any, split: str) -> Any:
    if not isinstance(saved, dict):
        raise BookError(source, f"it has no splits, so no {split!r}", "Leave the split out")
    if split not in saved:
        raise BookError(source, f"it has no split {split!r}", f"It has: {', '.join(saved)}")
    return saved[split]


@contextmanager
def _hushed(name: str) -> Iterator[None]:
    """Without the warnings of every attempt to reach the Hub: the error at the end says it once."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
