"""Improvements from a file of their own, put beside the judgments of the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.judging.judgments import Judgment
from train.judging.rows import read_rows

COLUMNS = ("item", "option", "improvement")


def read_improvements(path: Path) -> dict[tuple[str, str], float]:
    """Improvement in per cent by item and option.

    Raises:
        ValueError: the file is not such a CSV; the message names the line.
    """
    columns, rows = read_rows(path)
    if missing := [column for column in COLUMNS if column not in columns]:
        raise ValueError(
            f"{path}: has no column '{missing[0]}' (it has {', '.join(columns)}); a file of "
            f"improvements has the columns {', '.join(COLUMNS)}"
        )
    found: dict[tuple[str, str], float] = {}
    for line, row in rows:
        key = (row["item"], row["option"])
        if key in found:
            raise ValueError(f"{path}, line {line}: {key[1]} on {key[0]} stands above already")
        try:
            found[key] = float(row["improvement"])
        except ValueError:
            found[key] = math.nan
        if not math.isfinite(found[key]):
            raise ValueError(
                f"{path}, line {line}: improvement should be a number; got {row['improvement']!r}"
            )
    return found


def with_improvements(
    judgments: Sequence[Judgment], known: dict[tuple[str, str], float]
) -> list[Judgment]:
    """The judgments with the improvements that are known of both their options."""
    found = []
    for judgment in judgments:
        first, second = ((judgment.item, option) for option in judgment.options)
        both = (known[first], known[second]) if first in known and second in known else None
        found.append(replace(judgment, improvements=both))
    return found
