"""The tables of an `evaluation.json` as CSV and as LaTeX, for a spreadsheet and for a paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.files import write_text

Json = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
OPTIONAL = ("chapters", "second_generator")
"""Tables of what not every evaluation looks at."""
_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    # In the usual encoding of fonts these two are marks of Spanish.
    "<": "$<$",
    ">": "$>$",
}
_MINUS = re.compile(r"(?<![\w.)-])-(?=\d)")


def write_tables(evaluation: Json, folder: Path) -> None:
    """A CSV for each of `tables`, and one in LaTeX for each of `printed_tables`."""
    for name, table in tables(evaluation).items():
        if table[1] or name not in OPTIONAL:
            write_text(folder / f"{name}.csv", as_csv(table))
    for name, table in printed_tables(evaluation).items():
        if table[1] or name not in OPTIONAL:
            write_text(folder / f"{name}.tex", as_latex(table))


def printed_tables(evaluation: Json) -> dict[str, Table]:
    """The tables as a paper has them: rounded, and with less below each other.

    What a second generator says is a column of `evaluation`.
    """
    return {
        "evaluation": improvements_table(evaluation),
        "comparisons": comparisons_table(evaluation),
        "parts": parts_table(evaluation),
        "texts": texts_table(evaluation, "texts"),
        "chapters": texts_table(evaluation, "chapters"),
    }


def tables(evaluation: Json) -> dict[str, Table]:
    """The tables by name, in full precision."""
    rows = [*evaluation["rows"], *evaluation["ablations"], *evaluation.get("checks", ())]
    return {
        "evaluation": (
            ("row", "mean", "low", "high", "median", "episodes", "books"),
            [(label(row), *_numbers(row), row["episodes"], row["books"]) for row in rows],
        ),
        "parts": (
            ("row", "by", "part", "mean", "low", "high", "episodes", "books"),
            [
                (label(row), p["by"], p["label"], p["mean"], *p["ci95"], p["episodes"], p["books"])
                for row in rows
                for p in row.get("parts", ())
            ],
        ),
        "texts": (
            ("row", "measure", "value"),
            [(label(row), *measure) for row in rows for measure in row.get("texts", {}).items()],
        ),
        "chapters": (
            ("row", "measure", "value"),
            [(label(row), *measure) for row in rows for measure in row.get("chapters", {}).items()],
        ),
        "second_generator": (
            ("row", "mean", "low", "high"),
            [
                (label(row), row["second_generator"]["mean"], *row["second_generator"]["ci95"])
                for row in rows
                if "second_generator" in row
            ],
        ),
        "comparisons": (
            ("first", "second", "difference", "low", "high", "share_ahead", "p", "p_holm"),
            [
                (
                    *(c["first"], c["second"], c["difference"]["mean"], *c["difference"]["ci95"]),
                    *(c["share_ahead"], c["p_value"], c["p_holm"]),
                )
                for c in evaluation.get("comparisons", ())
            ],
        ),
    }


def label(row: Json) -> str:
    return " ".join(filter(None, (row["name"], row.get("decoding"))))


def improvements_table(evaluation: Json) -> Table:
    """As it is printed: rounded, with the interval in one cell."""
    rows = (*evaluation["rows"], *evaluation["ablations"], *evaluation.get("checks", ()))
    has_second = any("second_generator" in row for row in rows)
    found = [
        (
            label(row).replace("_", " "),
            f"{row['improvement']['mean']:+.2f}",
            interval(row["improvement"]["ci95"]),
            f"{row['improvement']['spread']['p50']:+.2f}",
            *((_second(row),) if has_second else ()),
            row["episodes"],
            row["books"],
        )
        for row in rows
    ]
    second = ("second generator",) if has_second else ()
    return ("plan", "mean", "95 % interval", "median", *second, "episodes", "books"), found


def _second(row: Json) -> str:
    found = row.get("second_generator")
    return "–" if found is None else f"{found['mean']:+.2f} {interval(found['ci95'])}"


def comparisons_table(evaluation: Json) -> Table:
    found = [
        (
            f"{c['first']} over {c['second']}".replace("_", " "),
            f"{c['difference']['mean']:+.2f}",
            interval(c["difference"]["ci95"]),
            f"{100 * c['share_ahead']:.0f} %",
            p_value(c["p_value"]),
            p_value(c["p_holm"]),
        )
        for c in evaluation.get("comparisons", ())
    ]
    columns = ("pair", "points ahead", "95 % interval", "episodes ahead", "p", "p (Holm)")
    return columns, found


def parts_table(evaluation: Json) -> Table:
    """Of agents alone, and without single books, which the CSV has."""
    found = [
        (
            label(row).replace("_", " "),
            f"{part['by']} {part['label']}",
            f"{part['mean']:+.2f}",
            interval(part["ci95"]),
            part["episodes"],
            part["books"],
        )
        for row in evaluation["rows"]
        if "decoding" in row
        for part in row.get("parts", ())
        if part["by"] != "book"
    ]
    return ("plan", "part", "mean", "95 % interval", "episodes", "books"), found


def texts_table(evaluation: Json, of: str) -> Table:
    """A line for each measure of `texts` or `chapters`, a column for each row that has them."""
    rows = [row for row in evaluation["rows"] if row.get(of)]
    measures = list(dict.fromkeys(name for row in rows for name in row[of]))
    cells = [
        (
            name.replace("_", " "),
            *(f"{row[of][name]:.3g}" if name in row[of] else "–" for row in rows),
        )
        for name in measures
    ]
    return ("measure", *(label(row).replace("_", " ") for row in rows)), cells


def interval(ci95: Sequence[float | None]) -> str:
    low, high = ci95
    return "–" if low is None or high is None else f"[{low:+.2f}, {high:+.2f}]"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def as_csv(table: Table) -> str:
    """A number that is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table[0], *table[1]])
    return text.getvalue()


def as_latex(table: Table) -> str:
    """A tabular for `booktabs`: the first column to the left, the others to the right."""
    columns, rows = table

    def lines() -> Iterator[str]:
        yield rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}"
        yield r"\toprule"
        yield _tex_line(columns)
        yield r"\midrule"
        yield from map(_tex_line, rows)
        yield r"\bottomrule"
        yield r"\end{tabular}"

    return "\n".join(lines()) + "\n"


def _tex_line(cells: Sequence[Any]) -> str:
    # A hyphen before a number is a minus, which is longer.
    escaped = (_MINUS.sub("$-$", "".join(_TEX.get(c, c) for c in str(cell))) for cell in cells)
    return " & ".join(escaped) + r" \\"


def _numbers(row: Json) -> tuple[Any, ...]:
    found = row["improvement"]
    return (found["mean"], *found["ci95"], found["spread"]["p50"])
