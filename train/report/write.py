"""The report as files: one page to read, and its figures and tables for a paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
    texts_table,
    write_tables,
)
from train.files import write_json, write_text
from train.report.answer import QUESTION, answer, cost
from train.report.drawing import as_png, as_svg
from train.report.examples import examples
from train.report.figures import Figure, figures
from train.report.leaderboard import Entry, leaderboard
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
    entries = [Entry.of(group) for group in groups]
    tables = {"leaderboard": leaderboard(entries), "cost": cost(groups)}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", as_csv(table))
        write_text(folder / f"{name}.tex", as_latex(table))
    for number, run in enumerate(_runs(groups), start=1):
        of_run = folder / "tables" / f"{number}_{run.path.name}"
        of_run.mkdir(parents=True, exist_ok=True)
        write_tables(run.evaluation, of_run)
        write_json(of_run / "evaluation.json", run.evaluation)
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
            tables=_tables(groups, tables),
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
    """What all runs share, then a part for each run; the first of them is open."""
    of_all = []
    if len(groups) > 1:
        caption = (
            "Tokens are those that all members and the generator read and write for a chapter. On "
            "the frontier: none is both better and cheaper. File: leaderboard.csv."
        )
        of_all.append(_table("Leaderboard", shared["leaderboard"], caption))
    if shared["cost"][1]:
        caption = "Of reinforcement alone. File: cost.csv."
        of_all.append(_table("Cost", shared["cost"], caption))
    found = [{"title": "All runs", "is_open": True, "tables": of_all}] if of_all else []
    for number, run in enumerate(_runs(groups), start=1):
        where, folder = f"{run.name}, seed {run.seed}", f"tables/{number}_{run.path.name}"
        of_run = list(_tables_of(run, where, folder))
        found.append({"title": where, "is_open": number == 1, "tables": of_run})
    return found


def _tables_of(run: ReportedRun, where: str, folder: str) -> Iterator[dict[str, Any]]:
    caption = f"Per cent; file {folder}/evaluation.csv."
    yield _table(f"Improvement: {where}", improvements_table(run.evaluation), caption)
    caption = (
        "p: two-sided, from flipping the signs of whole books; Holm's correction among agents, "
        f"and among agents with controls. File {folder}/comparisons.csv."
    )
    yield _table(f"Who is ahead: {where}", comparisons_table(run.evaluation), caption)
    caption = f"Means over plans; file {folder}/texts.csv."
    yield _table(f"Plans as texts: {where}", texts_table(run.evaluation, "texts"), caption)
    chapters = texts_table(run.evaluation, "chapters")
    if chapters[1]:
        caption = (
            "What the generator wrote with these plans: the measures of plans as texts. "
            f"File {folder}/chapters.csv."
        )
        yield _table(f"Written chapters: {where}", chapters, caption)


def _table(title: str, table: Table, caption: str) -> dict[str, Any]:
    return {"title": title, "columns": table[0], "rows": table[1], "caption": caption}


def _described(run: ReportedRun) -> dict[str, str]:
    git = run.revision.get("git") or {}
    code = git.get("revision", "without git") + (" with changes" if git.get("dirty") else "")
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    return {"path": str(run.path), "code": code, "config": config}
