"""A leaderboard that grows: what finished evaluations found, kept in a file and put into tables.

    python -m benchmarks.leaderboard docs/results/leaderboard [NAME=]RUN [NAME=]RUN ...

Adds the runs to `evaluations.json` in the folder, each as an experiment under its name or else that
of its run folder; those of one name are its seeds. An experiment that was there before is replaced
as a whole. Then the table, the figure and its data are made anew from all that the file has, and
the tables for a page are printed. Without runs nothing is added.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from train.analysis.exports import as_csv, label, p_value
from train.analysis.rows import ALONE_ROW, SELF_CONSISTENCY, TRAINED, UNTRAINED, WITHOUT_ROW
from train.files import write_text
from train.report.drawing import as_png
from train.report.figures import frontier
from train.report.leaderboard import Entry, leaderboard
from train.report.runs import Group, ReportedRun
from train.statistics import Interval

KEPT, TABLE, FIGURES = "evaluations.json", "leaderboard.csv", "figures.jsonl"
INTERVALS = ("improvement", "gain", "ahead")
DIGITS = 4


def added(kept: dict[str, Any], named: Sequence[tuple[str, Path]]) -> dict[str, Any]:
    """The experiments that are kept, with the runs, by name."""
    runs: dict[str, list[ReportedRun]] = defaultdict(list)
    for name, path in named:
        run = ReportedRun.read(path)
        if run.seed in (other.seed for other in runs[name]):
            raise SystemExit(f"{path}: {name} has a run of seed {run.seed} already")
        runs[name].append(run)
    found = {name: experiment(name, own) for name, own in runs.items()}
    return dict(sorted({**kept, **found}.items()))


def experiment(name: str, runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """What is kept of one: the means over its seeds, and of each seed rows, comparisons, costs."""
    ordered = sorted(runs, key=lambda run: run.seed)
    entry = asdict(Entry.of(Group(name, tuple(ordered))))
    row = label(ordered[0].best_row)
    return {
        "row": row,
        "entry": _rounded(entry),
        "seeds": {str(run.seed): _short(run) for run in ordered},
    }


def entries(kept: Mapping[str, Any]) -> list[Entry]:
    """The lines of the leaderboard."""
    return [
        Entry(**{**own["entry"], **{name: _interval(own["entry"][name]) for name in INTERVALS}})
        for own in kept.values()
    ]


def main_table(kept: Mapping[str, Any]) -> str:
    """All experiments by improvement, for a page."""
    columns, rows = leaderboard(entries(kept))
    lines = [
        "| env | improvement (%) | gained by learning | p | ahead of every member "
        "| tokens read / written |",
        "|---|---|---|---|---|---|",
    ]
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        gain = " ".join((row["gained by learning"], row["95 % of it"]))
        lines.append(
            f"| `{row['experiment']}` | {row['improvement (%)']} {row['95 %']} | {gain} "
            f"| {_chance(kept[row['experiment']])} | {row['ahead of every member']} "
            f"| {row['tokens read']} / {row['tokens written']} |"
        )
    return "\n".join(lines)


def without_writers(kept: Mapping[str, Any]) -> str:
    """Of ensembles, what the rest reaches without each writer; of those that tell."""
    found = {name: _without(own) for name, own in kept.items() if not _roles(own)}
    found = {name: own for name, own in found.items() if own}
    writers = sorted({writer for own in found.values() for writer in own})
    lines = [
        f"| | all | {' | '.join(f'without `{w}`' for w in writers)} |",
        f"|---|---|{'---|' * len(writers)}",
    ]
    for name, own in found.items():
        cells = [f"{own[w]:+.2f}" if w in own else "" for w in writers]
        whole = kept[name]["entry"]["improvement"]["mean"]
        lines.append(f"| `{name}` | {whole:+.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def without_roles(kept: Mapping[str, Any]) -> str:
    """Of collaborations at text level, the same transcripts without what each role said."""
    lines = ["| | all | without one role | first plans alone | alone at as many tokens |"]
    lines.append("|---|---|---|---|---|")
    for name, own in kept.items():
        if not _roles(own):
            continue
        left = ", ".join(f"{_title(role)} {mean:+.2f}" for role, mean in _without(own).items())
        alone = _means(own, ALONE_ROW)
        first = ", ".join(f"{_title(role)} {mean:+.2f}" for role, mean in alone.items())
        vote = _means(own, SELF_CONSISTENCY).get("")
        lines.append(
            f"| `{name}` | {own['entry']['improvement']['mean']:+.2f} | {left} | {first} "
            f"| {'' if vote is None else f'{vote:+.2f}'} |"
        )
    return "\n".join(lines)


def write(folder: Path, kept: Mapping[str, Any]) -> None:
    """Leaves what is kept, a line for each experiment, the table, the figure and its data."""
    lines = ",\n".join(f"{json.dumps(name)}: {_json(own)}" for name, own in kept.items())
    write_text(folder / KEPT, f"{{\n{lines}\n}}\n")
    write_text(folder / TABLE, as_csv(leaderboard(entries(kept))))
    figure = frontier(entries(kept))
    write_text(folder / FIGURES, f"{_json(figure.as_json())}\n")
    as_png(figure, folder / f"{figure.name}.png")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _short(run: ReportedRun) -> dict[str, Any]:
    rows = run.evaluation["rows"]
    return {
        "rows": {label(row): _rounded(_bare(row["improvement"])) for row in rows},
        "comparisons": [
            {
                "first": c["first"],
                "second": c["second"],
                "difference": _rounded(_bare(c["difference"])),
                "p_holm": round(c["p_holm"], DIGITS),
            }
            for c in run.evaluation["comparisons"]
            if c["first"].startswith(TRAINED)
        ],
        "play": {label(row): _rounded(row["play"]) for row in rows if row.get("play")},
    }


def _bare(interval: Mapping[str, Any]) -> dict[str, Any]:
    return {"mean": interval["mean"], "ci95": interval["ci95"]}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {name: _rounded(own) for name, own in value.items()}
    return [_rounded(own) for own in value] if isinstance(value, list | tuple) else value


def _interval(kept: Mapping[str, Any] | None) -> Interval | None:
    return None if kept is None else Interval(kept["mean"], tuple(kept["ci95"]))


def _chance(own: Mapping[str, Any]) -> str:
    """p of what the entry's row gained by learning; of several seeds the largest."""
    pair = (own["row"], own["row"].replace(TRAINED, UNTRAINED))
    chances = [
        c["p_holm"]
        for seed in own["seeds"].values()
        for c in seed["comparisons"]
        if (c["first"], c["second"]) == pair
    ]
    return p_value(max(chances)) if chances else ""


def _roles(own: Mapping[str, Any]) -> bool:
    return bool(_means(own, ALONE_ROW))


def _without(own: Mapping[str, Any]) -> dict[str, float]:
    return _means(own, WITHOUT_ROW)


def _means(own: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Means over all seeds of the rows that begin so, by what follows."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in own["seeds"].values():
        for name, row in seed["rows"].items():
            if name.startswith(prefix):
                found[name.removeprefix(prefix)].append(row["mean"])
    return {name: fmean(means) for name, means in found.items()}


def _title(role: str) -> str:
    return role.replace("_", " ")


def _named(asked: str) -> tuple[str, Path]:
    name, _, path = asked.rpartition("=")
    return name or Path(path).name, Path(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="*", type=_named)
    asked = parser.parse_args()
    before = asked.folder / KEPT
    old = json.loads(before.read_text(encoding="utf-8")) if before.is_file() else {}
    new = added(old, asked.runs)
    asked.folder.mkdir(parents=True, exist_ok=True)
    write(asked.folder, new)
    tables = [main_table(new), without_writers(new), without_roles(new)]
    # A head and its line are no table.
    print(*(table for table in tables if table.count("\n") > 1), sep="\n\n")
