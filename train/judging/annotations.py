"""The CSV of pairwise judgments: read with every doubt told, and written in the same form."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.config.hints import did_you_mean
from train.files import write_text
from train.judging.judgments import DIMENSIONS, TIE, UNANSWERED, Judgment
from train.judging.rows import Rows, read_rows

REQUIRED = (*DIMENSIONS, "options")
OPTIONAL = ("texts", "item", "annotator", "first", "improvements")
_TEXT_ID = re.compile(r"[^\s,()'\"]+")


@dataclass(frozen=True)
class Annotations:
    """What a file holds. `items_from` says how it is known which rows are about one item."""

    path: Path
    judgments: tuple[Judgment, ...]
    items_from: str
    unused_columns: tuple[str, ...]


def read_annotations(path: Path) -> Annotations:
    """All rows of the file.

    Raises:
        ValueError: the file is not such a CSV; the message names the line.
    """
    columns, rows = read_rows(path)
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        near = did_you_mean(missing[0], [c for c in columns if c not in (*REQUIRED, *OPTIONAL)])
        raise ValueError(
            f"{path}: has no column '{missing[0]}' (it has {', '.join(columns)}); {near}"
            f"a file of judgments has the columns {', '.join(REQUIRED)}"
        )
    if not rows:
        raise ValueError(f"{path}: has a header and no rows; give a file with judgments")
    items, pairs, items_from = _items_and_pairs(path, columns, rows)
    judgments = tuple(
        _judgment(f"{path}, line {line}", row, item, pair)
        for (line, row), item, pair in zip(rows, items, pairs, strict=True)
    )
    _refuse_repeats(path, [line for line, _ in rows], judgments)
    unused = tuple(column for column in columns if column not in (*REQUIRED, *OPTIONAL))
    return Annotations(path, judgments, items_from, unused)


def write_annotations(path: Path, judgments: Sequence[Judgment]) -> None:
    """A file that `read_annotations` reads back; options stand in the order of the alphabet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*REQUIRED, "item", "annotator", "first", "improvements"))
    for judgment in judgments:
        names = sorted(judgment.options)
        known = dict(zip(judgment.options, judgment.improvements or (), strict=False))
        writer.writerow(
            (
                *(judgment.answers[dimension] for dimension in DIMENSIONS),
                ",".join(names),
                *(judgment.item, judgment.annotator, judgment.first),
                ",".join(repr(known[name]) for name in names if known),
            )
        )
    write_text(path, text.getvalue())


def _judgment(where: str, row: Mapping[str, str], item: str, pair: str) -> Judgment:
    options = _options(where, row["options"])
    for column in DIMENSIONS:
        if row[column] not in (*options, TIE, *UNANSWERED):
            raise ValueError(
                f"{where}: {column} is won by {row[column]!r}, which is not compared here; "
                f"{did_you_mean(row[column], [*options, TIE])}write {options[0]}, {options[1]} or "
                f"{TIE}, and nothing where it was not judged"
            )
    first = row.get("first", "")
    if first not in (*options, ""):
        raise ValueError(
            f"{where}: first is {first!r}; write {options[0]}, {options[1]} or nothing"
        )
    return Judgment(
        options,
        {dimension: row[dimension] for dimension in DIMENSIONS},
        item,
        pair,
        row.get("annotator", ""),
        first,
        _improvements(where, row.get("improvements", "")),
    )


def _options(where: str, cell: str) -> tuple[str, str]:
    names = [name.strip() for name in cell.split(",")]
    if len(names) != 2 or len({*names, ""}) != 3 or {TIE, *UNANSWERED} & set(names):
        raise ValueError(
            f"{where}: options should name two different options, as in 'trained,untrained', and "
            f"none of them {TIE}; got {cell!r}"
        )
    return names[0], names[1]


def _improvements(where: str, cell: str) -> tuple[float, float] | None:
    if not cell:
        return None
    try:
        first, second = (float(value) for value in cell.split(","))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ValueError(
            f"{where}: improvements should be two numbers in the order of options, as in '1.5,0'; "
            f"got {cell!r}"
        )
    return first, second


def _items_and_pairs(
    path: Path, columns: Sequence[str], rows: Rows
) -> tuple[list[str], list[str], str]:
    """For each row what it is about, and which two texts it compares."""
    if "item" in columns:
        for line, row in rows:
            if not row["item"]:
                raise ValueError(f"{path}, line {line}: item is empty; name what was judged")
        items = [row["item"] for _, row in rows]
        texts = [row.get("texts", "") for _, row in rows]
        return items, [f"{i}: {t}" for i, t in zip(items, texts, strict=True)], "the column item"
    if "texts" in columns:
        texts = [tuple(_text_ids(f"{path}, line {line}", row["texts"])) for line, row in rows]
        return list(_linked(texts)), [",".join(ids) for ids in texts], "texts in common"
    alone = [f"line {line}" for line, _ in rows]
    return alone, alone, "nothing (every row is taken for an item of its own)"


def _text_ids(where: str, cell: str) -> list[str]:
    found = _TEXT_ID.findall(cell)
    if len(found) != 2:
        raise ValueError(f"{where}: texts should be two ids, as in '(0, 1)'; got {cell!r}")
    return found


def _linked(texts: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A name of the item of each row: rows with a text in common are about the same."""
    above: dict[str, str] = {}

    def top(text: str) -> str:
        while above.setdefault(text, text) != text:
            text = above[text]
        return text

    for first, second in texts:
        above[top(second)] = top(first)
    return (f"text {top(first)}" for first, _ in texts)


def _refuse_repeats(path: Path, lines: Sequence[int], judgments: Sequence[Judgment]) -> None:
    seen: dict[tuple[object, ...], int] = {}
    for line, judgment in zip(lines, judgments, strict=True):
        options = tuple(sorted(judgment.options))
        key = (judgment.annotator, judgment.pair, options, judgment.first)
        if judgment.annotator and key in seen:
            raise ValueError(
                f"{path}, line {line}: {judgment.annotator} judged this pair in this order in line "
                f"{seen[key]} already; keep one of the two"
            )
        seen[key] = line
