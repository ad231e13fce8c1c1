"""`nextchapter report run=runs/<run>`: what runs have shown, as one page and files for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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
    num_examples: Annotated[int, Field(ge=0)] = 3
    """Chapters to read of each experiment."""
    experiment_name: str = "report"
    seed: int = 0


def run(config: DictConfig) -> None:
    """Writes the report into `run_dir`."""
    settings = parse(ReportConfig, config)
    named = [settings.run] if isinstance(settings.run, str) else list(settings.run or ())
    if not named:
        raise ValueError("run: says what to report; give run=runs/<run> or run=[runs/A,runs/B]")
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
