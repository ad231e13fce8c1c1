"""What a trial of a sweep is judged by: its agent's improvement, or what it logged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.analysis.rows import TRAINED
from train.run_folder import RunFolder
from train.trials import Trial

IMPROVEMENT = "improvement"
FILE = "search.json"
"""In the folder of a sweep that an optimiser chose: what it was asked for."""


@dataclass(frozen=True)
class Objective:
    """One number for each trial.

    `improvement` is that of the trained agent on unseen books, in per cent, in the row of
    `decoding` where there is one; any other metric is the last of its name in `metrics.jsonl`.
    """

    metric: str = IMPROVEMENT
    direction: Literal["maximize", "minimize"] = "maximize"
    decoding: str = "sampled"

    @classmethod
    def of_sweep(cls, sweep: Path, decoding: str) -> Objective:
        """What the sweep was asked for; improvement where no optimiser was at work."""
        path = sweep / FILE
        if not path.is_file():
            return cls(decoding=decoding)
        asked = json.loads(path.read_text(encoding="utf-8"))
        return cls(asked["metric"], asked["direction"], decoding)

    @property
    def label(self) -> str:
        return "improvement (%)" if self.metric == IMPROVEMENT else self.metric

    def value(self, trial: Trial) -> float | None:
        """None for a trial that is not done.

        Raises:
            ValueError: it did not log the metric.
        """
        if trial.state != "done":
            return None
        folder = RunFolder(trial.path)
        if self.metric == IMPROVEMENT:
            return self._improvement(folder)
        lines = folder.metrics_path.read_text(encoding="utf-8").splitlines()
        logged = [json.loads(line) for line in lines]
        found = [line[self.metric] for line in logged if self.metric in line]
        if not found:
            known = sorted({name for line in logged for name in line})
            raise ValueError(
                f"hydra.sweeper.metric: {folder.metrics_path} has no {self.metric!r}; there is "
                f"{IMPROVEMENT}, {', '.join(known)}"
            )
        return float(found[-1])

    def sort_key(self, value: float) -> float:
        """The smaller, the better."""
        return -value if self.direction == "maximize" else value

    def _improvement(self, folder: RunFolder) -> float:
        table: Any = json.loads(folder.evaluation_path.read_text(encoding="utf-8"))
        own = {row["decoding"]: row for row in table["rows"] if row["name"] == TRAINED}
        row = own.get(self.decoding) or next(iter(own.values()))
        return float(row["improvement"]["mean"])
