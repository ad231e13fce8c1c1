"""Files with one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from envs.books.encoding import read_text
from envs.books.errors import BookError


def read_records(path: Path) -> Iterator[tuple[str, object]]:
    """(where, record) for every line that is not blank; `where` is `line 3`."""
    # Split at line feeds alone: JSON strings may hold other characters that end lines.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BookError(
                path, f"line {number} is not JSON ({error})", "Write one JSON object per line"
            ) from error
        yield f"line {number}", record
