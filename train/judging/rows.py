"""A CSV file as rows that know their line: the checks that any such file needs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

Rows = list[tuple[int, dict[str, str]]]


def read_rows(path: Path) -> tuple[list[str], Rows]:
    """The columns, and each row with the line on which it ends; empty lines are passed over.

    Raises:
        ValueError: the file is no CSV in UTF-8, or a row has more or fewer cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells where the header has "
                    f"{len(columns)}; quote a cell that holds commas"
                )
            named = zip(columns, (cell.strip() for cell in cells), strict=True)
            rows.append((reader.line_num, dict(named)))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: not readable as CSV ({error})"
        ) from error
    return columns, rows
