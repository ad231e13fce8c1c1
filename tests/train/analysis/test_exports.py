"""The tables of an evaluation as CSV and LaTeX."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from train.analysis.exports import as_latex, write_tables


@pytest.fixture
def evaluation() -> dict[str, Any]:
    spread = {"p50": 1.5}
    row = {
        "name": "trained",
        "decoding": "greedy",
        "improvement": {"mean": 2.0, "ci95": [1.0, 3.0], "spread": spread},
        "episodes": 4,
        "books": 2,
        "parts": [
            {"by": "genre", "label": "crime", "mean": 1.0, "ci95": [None, None]}
            | {"episodes": 2, "books": 1}
        ],
        "texts": {"words": 12.5},
    }
    pair = {
        "first": "trained greedy",
        "second": "empty_plan",
        "difference": {"mean": 2.0, "ci95": [1.0, 3.0]},
        "share_ahead": 0.75,
        "p_value": 0.5,
        "p_holm": 0.0001,
    }
    return {"rows": [row], "ablations": [], "checks": [], "comparisons": [pair]}


def test_tables_are_in_full_precision_with_nothing_for_what_is_unknown(
    evaluation: dict[str, Any], tmp_path: Path
) -> None:
    write_tables(evaluation, tmp_path)
    found = {
        path.stem: list(csv.reader(path.read_text().splitlines()))[1:]
        for path in tmp_path.glob("*.csv")
    }
    assert found == {
        "evaluation": [["trained greedy", "2.0", "1.0", "3.0", "1.5", "4", "2"]],
        "parts": [["trained greedy", "genre", "crime", "1.0", "", "", "2", "1"]],
        "texts": [["trained greedy", "words", "12.5"]],
        "comparisons": [
            ["trained greedy", "empty_plan", "2.0", "1.0", "3.0", "0.75", "0.5", "0.0001"]
        ],
    }
    lines = (tmp_path / "evaluation.tex").read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrr}"
    assert lines[4] == r"trained greedy & +2.00 & [+1.00, +3.00] & +1.50 & 4 & 2 \\"
    assert "75 \\% & 0.500 & $<$ 0.001" in (tmp_path / "comparisons.tex").read_text()
    parts = (tmp_path / "parts.tex").read_text()
    assert r"trained greedy & genre crime & +1.00 & -- & 2 & 1 \\" in parts
    assert r"words & 12.5 \\" in (tmp_path / "texts.tex").read_text()
    assert not (tmp_path / "chapters.tex").exists()


def test_what_latex_takes_for_a_command_is_escaped() -> None:
    assert r"a\_b \& 5 \%" in as_latex((("a_b & 5 %",), []))


def test_a_minus_is_a_minus_and_a_hyphen_stays_one() -> None:
    printed = as_latex((("-19.59", "[-20.87, -18.2]", "book-0", "1–2", "p > 0"), []))
    assert r"$-$19.59 & [$-$20.87, $-$18.2] & book-0 & 1--2 & p $>$ 0" in printed
