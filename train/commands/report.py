"""`nextchapter report run=runs/<run>`: what runs have shown, as one page and files for a paper.

`nextchapter report sweep=multirun/<sweep>` tabulates and draws the trials of a sweep.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from train.config.validate import parse
from train.progress import ProgressDisplay


@dataclass(frozen=True)
class ReportConfig:
    """One report."""

    run_dir: str
    run: str | tuple[str, ...] | None = None
    """Folder of a run, or of several: those that differ in the seed alone are one experiment."""
    sweep: str | None = None
    """Folder of a sweep, to report its trials instead."""
    decoding: Literal["greedy", "sampled"] = "sampled"
    """Which row of the trained agent is the result of a trial, where it has both."""
    num_examples: Annotated[int, Field(ge=0)] = 3
    """Chapters to read of each experiment."""
    experiment_name: str = "report"
    seed: int = 0


def run(config: DictConfig) -> None:
    """Writes the report into `run_dir`."""
    settings = parse(ReportConfig, config)
    if settings.sweep is not None:
        _report_sweep(settings, settings.sweep)
        return
    named = [settings.run] if isinstance(settings.run, str) else list(settings.run or ())
    if not named:
        raise ValueError(
            "run: says what to report; give run=runs/<run>, run=[runs/A,runs/B] or sweep=FOLDER"
        )
    from train.report.runs import ReportedRun, grouped
    from train.report.write import PAGE, write_report

    groups = grouped([ReportedRun.read(Path(name)) for name in named])
    folder = Path(settings.run_dir)
    if (folder / PAGE).exists():
        raise ValueError(f"run_dir: {folder} holds a report already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with ProgressDisplay().stage("write the report"):
        page = write_report(groups, folder, settings.num_examples)
    console = Console()
    console.print(f"The report is {page}", highlight=False, soft_wrap=True)


def _report_sweep(settings: ReportConfig, sweep: str) -> None:
    from rich.table import Table

    from train.objective import Objective
    from train.report.sweep import read_results, write_sweep

    objective = Objective.of_sweep(Path(sweep), settings.decoding)
    results = read_results(Path(sweep), objective)
    folder = Path(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    columns, rows = write_sweep(results, objective, folder)
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*row)
    # A pipe or a file has no width of its own, and 80 columns would fold every line.
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    console.print(shown)
    failed = sum(result.trial.state == "failed" for result in results)
    found = sum(result.value is not None for result in results)
    console.print(
        f"{found} of {len(results)} trials have a result, {failed} failed; files in {folder}",
        highlight=False,
        soft_wrap=True,
    )
