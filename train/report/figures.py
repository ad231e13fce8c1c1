"""The data of every figure: what stands in `figures.jsonl`, and nothing else, is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from train.analysis.exports import label
from train.report.leaderboard import Entry, is_by_operations, is_on_frontier, price
from train.report.runs import Group, ReportedRun
from train.step_times import PARTS

WINDOW_STEPS = 10
REFERENCES = ("inferable_plan", "true_plan", "empty_plan")
MOST_NAMED_BOOKS = 24
"""More books stand in a row, from the best to the worst, without their names."""


@dataclass(frozen=True)
class Figure:
    """One figure. `kind` is `lines` (series with a band), `dots` (means with intervals), `ranks`
    (many means in order) or `points`.

    A series of lines has `x`, `y`, `low`, `high`; one of dots or ranks has `labels`, `y`, `low`,
    `high`; one of points has `x`, `y`, and `on_frontier`, whether the line passes through it.
    An unknown bound is None. `levels` are horizontal lines with a name.
    """

    name: str
    title: str
    caption: str
    kind: str
    x_label: str
    y_label: str
    series: tuple[Mapping[str, Any], ...]
    levels: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"series": list(self.series), "levels": dict(self.levels)}


def figures(groups: Sequence[Group]) -> list[Figure]:
    """All figures that the runs have data for, in reading order."""
    found = [
        _learning(groups),
        *(_rows(group) for group in groups),
        *_parts(groups),
        *_monitors(groups),
        _lines(
            "step_time",
            "Time per optimizer step",
            "Sampling, scoring and learning together, as the trainer measures it.",
            "seconds",
            "step_time",
            groups,
        ),
    ]
    found += [_step_parts(group) for group in groups]
    if len(groups) > 1:
        found.append(frontier([Entry.of(group) for group in groups]))
    return _named_apart([figure for figure in found if figure.series])


def frontier(entries: Sequence[Entry]) -> Figure:
    """Improvement against what was read and written for it, of several experiments."""
    known = [e for e in entries if price(e, entries) is not None]
    known.sort(key=lambda e: -e.improvement.mean)
    series = [
        {
            "name": e.name,
            "x": [price(e, entries)],
            "y": [e.improvement.mean],
            "on_frontier": is_on_frontier(e, entries),
        }
        for e in known
        if len(known) > 1
    ]
    unit = "10^9 operations" if is_by_operations(entries) else "tokens read and written"
    return Figure(
        "frontier",
        "Improvement and its cost",
        "Means over the seeds. Further up is better, further left is cheaper. The line joins those "
        "than which none is both better and cheaper; the others are hollow.",
        "points",
        f"{unit} for a chapter, by all members",
        "improvement (%)",
        tuple(series),
        {},
    )


def _named_apart(figures: Sequence[Figure]) -> list[Figure]:
    """Names of experiments that differ in punctuation alone would be one file."""
    taken: set[str] = set()
    found = []
    for figure in figures:
        name = figure.name if figure.name not in taken else f"{figure.name}_{len(taken) + 1}"
        taken.add(name)
        found.append(replace(figure, name=name))
    return found


def _learning(groups: Sequence[Group]) -> Figure:
    figure = _lines(
        "learning_curve",
        "Improvement of sampled plans while learning",
        f"Mean over the last {WINDOW_STEPS} steps. The band spans the seeds, where there are "
        "several. Dashed: what a perfect reasoner would write, and what the chapter does.",
        "improvement (%)",
        "improvement",
        groups,
        WINDOW_STEPS,
    )
    rows = {row["name"]: row for row in groups[0].first.evaluation["rows"]}
    if len(groups) > 1:
        whose = f"{groups[0].name}, seed {groups[0].first.seed}"
        figure = replace(figure, caption=f"{figure.caption} That is of {whose}.")
    levels = {n.replace("_", " "): rows[n]["improvement"]["mean"] for n in REFERENCES if n in rows}
    return replace(figure, levels=levels)


def _lines(
    name: str,
    title: str,
    caption: str,
    y_label: str,
    metric: str,
    groups: Sequence[Group],
    window: int = 1,
) -> Figure:
    series = []
    for group in groups:
        by_step: dict[int, list[float]] = defaultdict(list)
        for run in group.runs:
            for step, value in _smoothed(_curve(run, metric), window):
                by_step[step].append(value)
        steps = sorted(s for s, values in by_step.items() if len(values) == len(group.runs))
        if steps:
            series.append(
                {
                    "name": group.name,
                    "x": steps,
                    "y": [fmean(by_step[s]) for s in steps],
                    "low": [min(by_step[s]) for s in steps],
                    "high": [max(by_step[s]) for s in steps],
                    "seeds": [run.seed for run in group.runs],
                }
            )
    return Figure(name, title, caption, "lines", "optimizer step", y_label, tuple(series), {})


def _curve(run: ReportedRun, metric: str) -> list[tuple[int, float]]:
    return [(m["step"], m[metric]) for m in run.metrics if m.get(metric) is not None]


def _smoothed(curve: Sequence[tuple[int, float]], window: int) -> Iterator[tuple[int, float]]:
    for i, (step, _) in enumerate(curve):
        yield step, fmean(value for _, value in curve[max(0, i + 1 - window) : i + 1])


def _step_parts(group: Group) -> Figure:
    """What the steps of an experiment consist of: a series for each part."""
    parts = [
        _lines("", "", "", "", f"time/{part}", [replace(group, name=part)], WINDOW_STEPS)
        for part in PARTS
    ]
    return Figure(
        f"step_time_parts_{_slug(group.name)}",
        f"What a step's time is spent on: {group.name}",
        f"Means over {WINDOW_STEPS} steps and the seeds: until the answers are there, waiting "
        "for other processes, scoring, the update, and between steps (probes, checkpoints, logs).",
        "lines",
        "optimizer step",
        "seconds",
        tuple(series for part in parts for series in part.series),
        {},
    )


def _rows(group: Group) -> Figure:
    """The table as a picture: a series for each seed."""
    series = tuple(
        _dots(
            f"seed {run.seed}",
            (
                (label(row), row["improvement"]["mean"], row["improvement"]["ci95"])
                for row in run.evaluation["rows"]
            ),
        )
        for run in group.runs
    )
    return Figure(
        f"rows_{_slug(group.name)}",
        f"Improvement on unseen books: {group.name}",
        "Means over episodes with 95 % bootstrap intervals over books.",
        "dots",
        "improvement (%)",
        "",
        series,
        {"no plan": 0.0},
    )


def _parts(groups: Sequence[Group]) -> Iterator[Figure]:
    titles = {
        "book": "Improvement by book",
        "genre": "Improvement by genre",
        "chapter": "Improvement by chapter",
        "words": "Improvement by length of the chapter",
    }
    # Of several experiments one seed each, or there would be too many series.
    is_alone = len(groups) == 1
    runs = [(g.name, run) for g in groups for run in (g.runs if is_alone else g.runs[:1])]
    for by, title in titles.items():
        series = []
        for name, run in runs:
            parts = [p for p in run.best_row.get("parts", ()) if p["by"] == by]
            if by == "book":
                parts = sorted(parts, key=lambda p: -p["mean"])
            if parts:
                dots = ((p["label"], p["mean"], p["ci95"]) for p in parts)
                seed = f"seed {run.seed}"
                series.append(_dots(seed if is_alone else f"{name}, {seed}", dots))
        labels = {part_label for s in series for part_label in s["labels"]}
        if by == "words" and any(len(s["labels"]) < len(labels) for s in series):
            # Each seed has thirds of its own.
            series = series[:1] if is_alone else series
        is_long = by == "book" and len(labels) > MOST_NAMED_BOOKS
        whose = f" of {series[0]['name']}" if len(series) == 1 else ""
        caption = (
            "Means of their chapters, from the best book to the worst; figures.jsonl names them."
            if is_long
            else "95 % intervals over books, where there are several."
        )
        units = {"chapter": "chapter index", "words": "words"}.get(by, "")
        yield Figure(
            f"by_{by}",
            title,
            f"The row '{label(groups[0].first.best_row)}'{whose}. {caption}",
            "ranks" if is_long else "dots",
            "books" if is_long else "improvement (%)",
            "improvement (%)" if is_long else units,
            tuple(series),
            {"no plan": 0.0},
        )


def _monitors(groups: Sequence[Group]) -> Iterator[Figure]:
    for name, (title, unit, caption) in SHOWN_MONITORS.items():
        yield _lines(f"monitor_{name}", title, caption, unit, f"monitor/{name}", groups)


SHOWN_MONITORS = {
    "gain": (
        "Improvement on validation books",
        "improvement (%)",
        "Mean improvement of plans for validation books, in per cent.",
    ),
    "margin_shuffled": (
        "Ahead of plans for other books",
        "points of improvement",
        "Points by which plans beat those made for other books.",
    ),
    "margin_random": (
        "Ahead of random words",
        "points of improvement",
        "Points by which plans beat as many random words.",
    ),
    "plan_unseen_trigrams": (
        "New word triples in plans",
        "share",
        "Share of the plan's word triples that are not in its prompt; a fall to 0 is copying.",
    ),
    "plan_words": ("Length of plans", "words", "Words of a plan."),
    "entropy": (
        "Entropy of the agent",
        "nats",
        "Entropy of the agent's next token, in nats; near 0 it no longer explores.",
    ),
}
"""By the monitor's name: title, unit and caption."""


def _dots(name: str, points: Iterable[tuple[str, float, Sequence[float | None]]]) -> dict[str, Any]:
    found = list(points)
    return {
        "name": name,
        "labels": [row_label.replace("_", " ") for row_label, _, _ in found],
        "y": [mean for _, mean, _ in found],
        "low": [ci95[0] for _, _, ci95 in found],
        "high": [ci95[1] for _, _, ci95 in found],
    }


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()
