"""The leaderboard that grows: two books, and numbers from a pencil."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from benchmarks.leaderboard import (
    FIGURES,
    KEPT,
    TABLE,
    added,
    main_table,
    without_roles,
    without_writers,
    write,
)

BOOKS = ("one", "two")


def make_run(folder: Path, rows: Mapping[str, tuple[float, float]], seed: int = 0) -> Path:
    """A run folder whose rows have an improvement for each book; before, all were at nothing."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "run_dir": str(folder)}))
    (folder / "revision.json").write_text("{}")
    found = []
    for label, values in rows.items():
        name, _, decoding = label.partition(" ")
        mean = sum(values) / 2
        row = {"name": name, "improvement": {"mean": mean, "ci95": sorted(values)}}
        row |= {"decoding": decoding} if decoding else {}
        if name in ("trained", "untrained"):
            row["play"] = {"cost/a/read_tokens": 50.0, "cost/a/generated_tokens": 7.0}
        found.append(row)
    learners = [label for label in rows if "trained" in label]
    comparison = {
        "first": next(label for label in learners if label.startswith("trained")),
        "second": next(label for label in learners if label.startswith("untrained")),
        "difference": {"mean": 2.0, "ci95": [1.0, 3.0]},
        "p_holm": 0.0123,
    }
    evaluation = {"rows": found, "comparisons": [comparison]}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    with (folder / "improvements.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("item", "option", "improvement"))
        lines.writerows(
            (f"{book}/1", label, value)
            for label, values in rows.items()
            for book, value in zip(BOOKS, values, strict=True)
        )
    return folder


ENSEMBLE = {
    "untrained": (0.0, 0.0),
    "trained": (1.0, 3.0),
    "writer_a": (2.0, 2.0),
    "without_a": (1.5, 0.5),
}
COLLABORATION = {
    "untrained sampled": (0.0, 0.0),
    "trained sampled": (4.0, 6.0),
    "self_consistency": (3.0, 3.5),
    "empty_plan": (0.0, 0.0),
    "alone_first_agent": (4.5, 4.5),
    "without_first_agent": (-1.0, -2.0),
}


def test_a_table_tells_of_the_whole_and_of_the_whole_without_each(tmp_path: Path) -> None:
    kept = added(
        {},
        [
            ("route", make_run(tmp_path / "r", ENSEMBLE)),
            ("talk", make_run(tmp_path / "t", COLLABORATION)),
        ],
    )
    # Of two books, each whole is ahead of all others on one.
    end = "0.012 | 50 % [0, 100] | 50 / 7 |"
    assert main_table(kept).splitlines()[2:] == [
        f"| `talk` | +5.00 [+4.00, +6.00] | +5.00 [+4.00, +6.00] | {end}",
        f"| `route` | +2.00 [+1.00, +3.00] | +2.00 [+1.00, +3.00] | {end}",
    ]
    assert without_writers(kept).splitlines()[-1] == "| `route` | +2.00 | +1.00 |"
    assert without_roles(kept).splitlines()[2:] == [
        "| `talk` | +5.00 | first agent -1.50 | first agent +4.50 | +3.25 |"
    ]


def test_what_was_kept_stays_and_is_replaced_by_a_run_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    first = added({}, [(name, make_run(tmp_path / name, ENSEMBLE)) for name in ("b", "a")])
    write(folder, first)
    read = json.loads((folder / KEPT).read_text())
    assert read == first and list(read) == ["a", "b"]
    seeds = [make_run(tmp_path / f"new{seed}", COLLABORATION, seed) for seed in (1, 0)]
    write(folder, added(read, [("b", path) for path in seeds]))
    again = json.loads((folder / KEPT).read_text())
    assert again["a"] == first["a"]
    assert list(again["b"]["seeds"]) == ["0", "1"]
    with (folder / TABLE).open() as file:
        assert [row["experiment"] for row in csv.DictReader(file)] == ["b", "a"]
    figure = json.loads((folder / FIGURES).read_text())
    assert [(s["name"], s["x"], s["y"]) for s in figure["series"]] == [
        ("b", [57.0], [5.0]),
        ("a", [57.0], [2.0]),
    ]
    assert (folder / "frontier.png").stat().st_size > 1000


def test_a_seed_counts_once(tmp_path: Path) -> None:
    runs = [("a", make_run(tmp_path / name, ENSEMBLE)) for name in ("x", "y")]
    with pytest.raises(SystemExit, match="a has a run of seed 0 already"):
        added({}, runs)
