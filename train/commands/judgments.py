"""`nextchapter evaluate judgments=<csv>`: who is preferred, how surely, and by whom.

With `comparisons=<jsonl>` a judge agent makes the judgments first.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from train.config.validate import check, parse, plain
from train.files import write_json
from train.judging.annotations import Annotations, read_annotations, write_annotations
from train.judging.comparisons import read_comparisons
from train.judging.improvements import read_improvements, with_improvements
from train.judging.judgments import Judgment
from train.judging.report import judgment_report
from train.judging.settings import JudgingConfig
from train.judging.tables import judgment_notes, judgment_tables
from train.progress import ProgressDisplay
from train.run_folder import revision

TABLES_WIDTH = 160
"""Columns of a pipe or a file, which have no width of their own."""


@dataclass(frozen=True)
class JudgmentsConfig:
    """One evaluation of judgments."""

    experiment_name: str
    run_dir: str
    judgments: str | None = None
    """CSV of judgments, in the published form."""
    comparisons: str | None = None
    """JSONL of texts for a judge agent to compare."""
    judge: Mapping[str, Any] = field(default_factory=dict)
    """The judge agent: `train.judging.agents.JudgeConfig`, which needs torch."""
    judging: JudgingConfig = field(default_factory=JudgingConfig)
    seed: Annotated[int, Field(ge=0)] = 0


def run(config: DictConfig) -> None:
    """Prints the tables, and leaves `judgments.json` in the run's folder."""
    values = {key: value for key, value in plain(config).items() if key not in _OF_A_RUN}
    settings = parse(JudgmentsConfig, values)
    folder, progress = Path(settings.run_dir), ProgressDisplay()
    if (folder / "judgments.json").exists():
        raise ValueError(f"run_dir: {folder} holds an evaluation already; choose another folder")
    judged = read_annotations(Path(settings.judgments or _judge(settings, folder, progress)))
    judgments = _with_improvements(judged.judgments, settings.judging)
    report = judgment_report(judgments, settings.judging, settings.seed, progress)

    folder.mkdir(parents=True, exist_ok=True)
    found = {"source": _source(judged), **report.as_json(), "revision": revision()}
    settings_json = {"seed": settings.seed, "judging": asdict(settings.judging)}
    write_json(folder / "judgments.json", {**found, "settings": settings_json})
    console = Console(width=None if sys.stdout.isatty() else TABLES_WIDTH)
    console.print(*judgment_tables(report), sep="\n")
    for line in (_about(judged, report.num_items), *judgment_notes(report)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Results are in {folder}", highlight=False, soft_wrap=True)


# What the config holds for the evaluation of a run.
_OF_A_RUN = ("run", "checkpoint")


def _judge(settings: JudgmentsConfig, folder: Path, progress: ProgressDisplay) -> Path:
    """Has the agent judge, and returns the file with its judgments."""
    from train.judging.agents import JudgeConfig, judge
    from train.quiet import quiet_libraries

    judge_config = check(JudgeConfig, settings.judge, "judge")
    comparisons = read_comparisons(Path(str(settings.comparisons)))
    quiet_libraries()
    judgments = judge(judge_config, comparisons, settings.seed, progress, folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "judgments.csv"
    write_annotations(path, judgments)
    return path


def _with_improvements(judgments: Sequence[Judgment], config: JudgingConfig) -> Sequence[Judgment]:
    if config.improvements is None:
        return judgments
    return with_improvements(judgments, read_improvements(Path(config.improvements)))


def _source(judged: Annotations) -> dict[str, Any]:
    return {
        "file": str(judged.path),
        "sha256": hashlib.sha256(judged.path.read_bytes()).hexdigest(),
        "items_known_by": judged.items_from,
        "columns_not_used": list(judged.unused_columns),
    }


def _about(judged: Annotations, num_items: int) -> str:
    unused = f" Not used: {', '.join(judged.unused_columns)}." if judged.unused_columns else ""
    return (
        f"{len(judged.judgments)} judgments of {num_items} items, told apart by "
        f"{judged.items_from}.{unused}"
    )
