"""Improvements in a file of their own: what a run leaves, and what joins judgments of its items."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from train.files import write_text
from train.judging.judgments import Judgment
from train.judging.rows import read_rows

if TYPE_CHECKING:
    # Reading needs no torch.
    from train.analysis.rows import Evaluation

COLUMNS = ("item", "option", "improvement")
FILE_OF_A_RUN = "improvements.csv"


def write_improvements(evaluation: Evaluation, folder: Path) -> None:
    """Every episode under every row of the table, as `improvements.csv` in a run's folder.

    The option is the row's name and decoding: `trained greedy`, `empty_plan`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in evaluation.rows:
        for attempt in row.attempts:
            writer.writerow((attempt.episode.episode_id, row.label, repr(attempt.improvement)))
    write_text(folder / FILE_OF_A_RUN, text.getvalue())


def read_improvements(path: Path) -> dict[tuple[str, str], float]:
    """Improvement in per cent by item and option, from a file or from the folder of a run.

    Raises:
        ValueError: the file is not such a CSV; the message names the line.
    """
    if path.is_dir():
        path = path / FILE_OF_A_RUN
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
