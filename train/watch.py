"""What a run says of itself while it goes on, read from its folder: nothing is asked of the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from train.run_folder import RunFolder
from train.time_left import duration

# Step times of so many last steps promise how long the rest takes.
STEPS_FOR_PACE = 20
PHASES = ("rollout", "scoring", "update", "waiting")
# A run is quiet for longer than its steps take: it saves, or probes, or hangs.
QUIET_AFTER_STEPS = 5


@dataclass(frozen=True)
class Watched:
    """A run at one moment; numbers that it does not log are missing."""

    name: str
    max_steps: int
    step: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The newest value of each metric."""
    paces: Sequence[float] = ()
    """Seconds of the last steps."""
    total_cost: float | None = None
    alarms: Sequence[str] = ()
    """Of the newest probe of the monitors, those that are not well."""
    age_s: float | None = None
    """Since the run last wrote a measurement."""
    is_done: bool = False

    @classmethod
    def read(cls, folder: Path, now: float | None = None) -> Watched:
        """Raises:
        FileNotFoundError: there is no run in the folder.
        """
        run = RunFolder.open(folder)
        config = run.load_config()
        lines = _lines(run.metrics_path)
        trained = [line for line in lines if "step_time" in line or "reward" in line]
        numbers = {k: v for line in lines for k, v in line.items() if v is not None}
        costs = [line["cost/step"] for line in lines if line.get("cost/step") is not None]
        now = time.time() if now is None else now
        return cls(
            str(config.get("experiment_name", folder.name)),
            int(config["trainer"]["max_steps"]),
            int(trained[-1]["step"]) if trained else 0,
            numbers,
            [line["step_time"] for line in lines if line.get("step_time")][-STEPS_FOR_PACE:],
            sum(costs) if costs else None,
            _alarms(_lines(run.tables_dir / "monitors.jsonl")),
            max(0.0, now - lines[-1]["time_s"]) if lines else None,
            run.evaluation_path.exists(),
        )

    @property
    def pace_s(self) -> float | None:
        return sum(self.paces) / len(self.paces) if self.paces else None

    @property
    def left_s(self) -> float | None:
        """Until the last step, at the pace of the last ones."""
        return None if self.pace_s is None else self.pace_s * (self.max_steps - self.step)

    @property
    def is_quiet(self) -> bool:
        pace, age = self.pace_s, self.age_s
        return not self.is_done and bool(pace and age and age > QUIET_AFTER_STEPS * pace + 60)


def as_table(run: Watched) -> Table:
    """One row for each thing that is known."""
    table = Table(title=f"{run.name}: step {run.step} of {run.max_steps}", show_header=False)
    for name, value in rows(run):
        style = "bold red" if name in ("alarm", "quiet") else ""
        table.add_row(name, Text(value, style=style))
    return table


def rows(run: Watched) -> list[tuple[str, str]]:
    """Names and values, as text."""
    known = run.numbers
    found = [("progress", _progress(run))]
    for name, unit in (("reward", ""), ("improvement", " %")):
        if name in known:
            found.append((name, f"{known[name]:.3f}{unit}"))
    if "throughput/tokens_per_s" in known:
        found.append(("throughput", f"{known['throughput/tokens_per_s']:,.0f} tokens/s"))
    if "step_time" in known:
        found.append(("step", _breakdown(known)))
    if "throughput/mfu" in known:
        found.append(("MFU", f"{known['throughput/mfu']:.1%}"))
    memory = {k: v for k, v in known.items() if k.startswith("memory/rank_")}
    if memory:
        per_rank = ", ".join(f"{v:.1f}" for v in memory.values())
        found.append(("memory", f"{per_rank} GB (peak of each rank)"))
    if run.total_cost is not None:
        found.append(("cost", f"{known['cost/step']:.4f} a step, {run.total_cost:.2f} so far"))
    found += [("alarm", line) for line in run.alarms]
    if run.age_s is not None:
        name = "quiet" if run.is_quiet else "last sign"
        found.append((name, f"{duration(run.age_s)} ago"))
    return found


def _progress(run: Watched) -> str:
    share = f"{run.step / run.max_steps:.0%}"
    if run.is_done:
        return f"{share}, evaluated"
    left = run.left_s
    return share if left is None else f"{share}, {duration(left)} left to train"


def _breakdown(known: Mapping[str, float]) -> str:
    whole = known["step_time"]
    parts = ", ".join(
        f"{phase} {known[f'time/{phase}'] / whole:.0%}"
        for phase in PHASES
        if f"time/{phase}" in known
    )
    return f"{whole:.1f} s ({parts})"


def _alarms(table: Sequence[Mapping[str, Any]]) -> list[str]:
    newest = [row for row in table if row["step"] == table[-1]["step"]]
    return [
        f"{row['verdict']}: {row['monitor']} = {row['value']:.3g} ({row['meaning']})"
        for row in newest
        if row.get("verdict") not in ("ok", "start") and row.get("value") is not None
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines; the last may be being written."""
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]
