"""The report as files: one page to read, and its figures and tables for a paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from train.analysis.exports import (
    Table,
    as_csv,
    as_latex,
    comparisons_table,
    improvements_table,
    label,
    write_tables,
)
from train.files import write_json, write_text
from train.report.answer import QUESTION, answer, cost, leaderboard
from train.report.drawing import as_png, as_svg
from train.report.examples import examples
from train.report.figures import Figure, figures
from train.report.runs import Group, ReportedRun

PAGE, FIGURES = "report.html", "figures.jsonl"
SECTIONS = {
    "learning": ("Learning", ("learning_curve",)),
    "unseen": ("On unseen books", ("rows_", "by_")),
    "monitors": ("Monitors against reward hacking", ("monitor_",)),
    "cost": ("Cost", ("frontier", "step_time")),
}


def write_report(groups: Sequence[Group], folder: Path, num_examples: int) -> Path:
    """Writes all files of the report and gives the page; the folder has to be there."""
    drawn = figures(groups)
    lines = (json.dumps(f.as_json(), ensure_ascii=False, allow_nan=False) for f in drawn)
    write_text(folder / FIGURES, "".join(f"{line}\n" for line in lines))
    (folder / "figures").mkdir(exist_ok=True)
    for figure in drawn:
        as_png(figure, folder / "figures" / f"{figure.name}.png")
    tables = {"leaderboard": leaderboard(groups), "cost": cost(groups)}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", as_csv(table))
        write_text(folder / f"{name}.tex", as_latex(table))
    for number, run in enumerate(_runs(groups), start=1):
        of_run = folder / "tables" / f"{number}_{run.path.name}"
        of_run.mkdir(parents=True, exist_ok=True)
        write_tables(run.evaluation, of_run)
    answers = [answer(group) for group in groups]
    summary = {
        "question": QUESTION,
        "answers": [asdict(a) for a in answers],
        **{name: [dict(zip(t[0], row, strict=True)) for row in t[1]] for name, t in tables.items()},
        "runs": [str(run.path) for run in _runs(groups)],
    }
    write_json(folder / "report.json", summary)
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=", ".join(group.name for group in groups),
            question=QUESTION,
            answers=answers,
            sections=_sections(drawn),
            tables=list(_tables(groups, tables)),
            examples=[e for group in groups for e in examples(group.first, num_examples)],
            runs=[_described(run) for run in _runs(groups)],
        )
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("train.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def _runs(groups: Sequence[Group]) -> list[ReportedRun]:
    return [run for group in groups for run in group.runs]


def _sections(drawn: Sequence[Figure]) -> list[dict[str, Any]]:
    found = []
    for name, (title, prefixes) in SECTIONS.items():
        inside = [
            {**vars(figure), "svg": Markup(as_svg(figure)), "line": line}
            for line, figure in enumerate(drawn, start=1)
            if figure.name.startswith(prefixes)
        ]
        if inside:
            found.append({"id": name, "title": title, "figures": inside})
    return found


def _tables(groups: Sequence[Group], shared: dict[str, Table]) -> list[dict[str, Any]]:
    found = []
    if len(groups) > 1:
        caption = "On the frontier: none is both better and shorter. File: leaderboard.csv."
        found.append(_table("Leaderboard", shared["leaderboard"], caption))
    for number, run in enumerate(_runs(groups), start=1):
        where, of_run = f"{run.name}, seed {run.seed}", f"tables/{number}_{run.path.name}"
        caption = f"Per cent; file {of_run}/evaluation.csv."
        found.append(_table(f"Improvement: {where}", improvements_table(run.evaluation), caption))
        caption = (
            "p: two-sided, from flipping the signs of whole books; Holm's correction among agents, "
            f"and among agents with controls. File {of_run}/comparisons.csv."
        )
        found.append(_table(f"Who is ahead: {where}", comparisons_table(run.evaluation), caption))
        caption = f"Means over plans; file {of_run}/texts.csv."
        found.append(_table(f"Plans as texts: {where}", _texts(run, "texts"), caption))
        chapters = _texts(run, "chapters")
        if chapters[1]:
            caption = (
                "What the generator wrote with these plans: the measures of plans as texts. "
                f"File {of_run}/chapters.csv."
            )
            found.append(_table(f"Written chapters: {where}", chapters, caption))
    if shared["cost"][1]:
        caption = "Of reinforcement alone. File: cost.csv."
        found.append(_table("Cost", shared["cost"], caption))
    return found


def _texts(run: ReportedRun, of: str) -> Table:
    """A line for each measure of `texts` or `chapters`, a column for each row that has them."""
    rows = [row for row in run.evaluation["rows"] if row.get(of)]
    measures = list(dict.fromkeys(name for row in rows for name in row[of]))
    cells = [
        (
            name.replace("_", " "),
            *(f"{row[of][name]:.3g}" if name in row[of] else "–" for row in rows),
        )
        for name in measures
    ]
    return ("measure", *(label(row).replace("_", " ") for row in rows)), cells


def _table(title: str, table: Table, caption: str) -> dict[str, Any]:
    return {"title": title, "columns": table[0], "rows": table[1], "caption": caption}


def _described(run: ReportedRun) -> dict[str, str]:
    git = run.revision.get("git") or {}
    code = git.get("revision", "without git") + (" with changes" if git.get("dirty") else "")
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    return {"path": str(run.path), "code": code, "config": config}
