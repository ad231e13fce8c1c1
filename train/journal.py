"""What an evaluation has played and scored already, kept so that nothing is done twice.

A batch is a line of a file, written when it is scored: a kill loses the batch at work and no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from train import ranks
from train.cache import digest


class Journal:
    """Batches by what they depend on: `about` for all of them, and a key for each.

    Of several processes the main one reads and writes, and the others learn from it. Without a
    folder nothing is kept.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / f"{digest(about)[:32]}.jsonl"
        self._known: dict[str, str] = {}
        if self.path and ranks.is_main():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._known = _read(self.path)

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """What was kept of this batch; None where it is still to be done."""
        text = ranks.from_main(lambda: self._known.get(digest(key), ""))
        return json.loads(text)["batch"] if text else None

    def keep(self, key: Mapping[str, Any], batch: Any) -> None:
        """Writes the batch to the disk."""
        if self.path is None or not ranks.is_main():
            return
        line = json.dumps({"key": digest(key), "batch": batch}, allow_nan=False)
        # Two evaluations of the same checkpoint may share the file.
        with FileLock(self.path.with_suffix(".lock")), self.path.open("a+b") as file:
            file.write(_end_of_torn_line(file) + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> dict[str, str]:
    """The whole lines of the file by key; the last one may have been cut by a kill."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found[json.loads(line)["key"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _end_of_torn_line(file: Any) -> bytes:
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"
