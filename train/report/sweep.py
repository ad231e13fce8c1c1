"""`nextchapter report sweep=FOLDER`: the trials of a sweep, the best, what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.analysis.exports import Table, as_csv, as_latex
from train.files import write_json, write_text
from train.objective import IMPROVEMENT, Objective
from train.report.sweep_drawing import draw_importance, draw_parallel
from train.trials import Trial, read_trials


@dataclass(frozen=True)
class Result:
    """A trial, and what it reached by the sweep's objective; None without a result."""

    trial: Trial
    value: float | None


def read_results(sweep: Path, objective: Objective) -> list[Result]:
    """All trials, with what the objective makes of them."""
    return [Result(trial, objective.value(trial)) for trial in read_trials(sweep)]


def write_sweep(results: Sequence[Result], objective: Objective, folder: Path) -> Table:
    """Writes tables and pictures into `folder` and gives the table of all trials."""
    varied = varied_settings(results)
    table = _table(results, varied, objective)
    found = [result for result in results if result.value is not None]
    shares = importance(found, varied)
    write_text(folder / "trials.csv", as_csv(table))
    write_text(folder / "trials.tex", as_latex(table))
    failed = [r.trial for r in results if r.trial.state == "failed"]
    summary = {
        "best": _described(best(found, objective), objective) if found else None,
        "trials": [_described(result, objective) for result in results],
        "failed": [{"trial": t.number, "error": t.error} for t in failed],
        "importance": shares,
    }
    write_json(folder / "sweep.json", summary)
    (folder / "figures").mkdir(exist_ok=True)
    if len(found) > 1 and varied:
        rows = [[r.trial.settings.get(name, "") for name in varied] for r in found]
        values = [r.value for r in found if r.value is not None]
        picture = folder / "figures" / "parallel_coordinates.png"
        draw_parallel(varied, rows, objective.label, values, picture)
        draw_importance(shares, folder / "figures" / "importance.png")
    return table


def varied_settings(results: Sequence[Result]) -> list[str]:
    """The settings in which the trials differ, in the order in which they were given."""
    names = dict.fromkeys(name for result in results for name in result.trial.settings)
    values = {n: {result.trial.settings.get(n) for result in results} for n in names}
    return [name for name in names if len(values[name]) > 1]


def best(found: Sequence[Result], objective: Objective) -> Result:
    return min(found, key=lambda result: objective.sort_key(result.value or 0.0))


def importance(found: Sequence[Result], varied: Sequence[str]) -> dict[str, float]:
    """The share of the variance between results that each setting explains by itself.

    Where values come up more than once it is that between their means (eta squared, which favours
    settings with many values); where all differ, the squared rank correlation.
    """
    results = np.array([result.value for result in found], dtype=float)
    if len(results) < 2 or results.std() == 0:
        return dict.fromkeys(varied, 0.0)
    shares = {}
    for name in varied:
        values = [result.trial.settings.get(name, "") for result in found]
        distinct = list(dict.fromkeys(values))
        if len(distinct) == len(values):
            shares[name] = _rank_correlation(values, results) ** 2
            continue
        groups = [results[[v == value for v in values]] for value in distinct]
        between = sum(len(g) * (g.mean() - results.mean()) ** 2 for g in groups)
        shares[name] = float(between / ((results - results.mean()) ** 2).sum())
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rank_correlation(values: Sequence[str], results: np.ndarray) -> float:
    numbers = [as_number(value) for value in values]
    if any(number is None for number in numbers):
        # Names have no order, and one result for each says nothing of them.
        return 0.0
    ranks = [np.argsort(np.argsort(np.array(side, dtype=float))) for side in (numbers, results)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _table(results: Sequence[Result], varied: Sequence[str], objective: Objective) -> Table:
    def key(result: Result) -> tuple[bool, float]:
        return result.value is None, objective.sort_key(result.value or 0.0)

    percent = objective.metric == IMPROVEMENT

    rows = [
        (
            str(result.trial.number),
            *(result.trial.settings.get(name, "–") for name in varied),
            "–" if result.value is None else f"{result.value:{'+.2f' if percent else '.4g'}}",
            result.trial.state + (f": {result.trial.error}" if result.trial.error else ""),
        )
        for result in sorted(results, key=key)
    ]
    return ("trial", *varied, objective.label, "state"), rows


def _described(result: Result, objective: Objective) -> Mapping[str, object]:
    trial = result.trial
    return {
        "trial": trial.number,
        "run": str(trial.path),
        "settings": dict(trial.settings),
        objective.metric: result.value,
        "state": trial.state,
    }
