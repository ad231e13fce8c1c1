"""What an evaluation has played and scored already, kept so that nothing is done twice.

A batch is a line of a file, written when it is scored: a kill loses the batch at work and no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from train import ranks
from train.cache import digest
from train.files import end_of_torn_line, naming


class Journal:
    """Batches by what they depend on: `about` for all of them, and a key for each.

    Of several processes the main one reads and writes, and the others learn from it. Without a
    folder nothing is kept.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / f"{digest(about)[:32]}.jsonl"
        # Where the line of each key stands in the file: the lines may be gigabytes.
        self._known: dict[str, tuple[int, int]] = {}
        if self.path and ranks.is_main():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._known = _read(self.path)

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """What was kept of this batch; None where it is still to be done."""
        text = ranks.from_main(lambda: self._line(digest(key)))
        return json.loads(text)["batch"] if text else None

    def keep(self, key: Mapping[str, Any], batch: Any) -> None:
        """Writes the batch to the disk."""
        if self.path is None or not ranks.is_main():
            return
        name = digest(key)
        line = json.dumps({"key": name, "batch": batch}, allow_nan=False).encode()
        # Two evaluations of the same checkpoint may share the file.
        lock = FileLock(self.path.with_suffix(".lock"))
        with lock, naming(self.path), self.path.open("a+b") as file:
            file.write(end_of_torn_line(file) + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._known[name] = (file.tell() - len(line) - 1, len(line))

    def _line(self, name: str) -> str:
        if name not in self._known:
            return ""
        assert self.path is not None
        start, length = self._known[name]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length).decode()


def _read(path: Path) -> dict[str, tuple[int, int]]:
    """Start and length in bytes of the whole lines by key; a kill may have cut the last one."""
    found: dict[str, tuple[int, int]] = {}
    if not path.exists():
        return found
    start = 0
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                found[json.loads(line)["key"]] = (start, len(line))
            start += len(line)
    return found
