"""What a report reads of a run's folder, and which runs differ in nothing but the seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.analysis.exports import label
from train.analysis.rows import TRAINED, UNTRAINED
from train.analysis.token_gains import FILE as TOKEN_GAINS
from train.run_folder import RunFolder

Json = Mapping[str, Any]
NOT_THE_EXPERIMENT = {
    *("seed", "run_dir", "resume", "cache_dir", "threads", "logging", "run"),
    *("judgments", "comparisons"),
}
"""Settings, at any depth, in which two runs may differ and still be the same experiment."""


LONGEST_DIFFERENCE = 80
"""Characters of settings behind a name; longer ones say less than the folder's name."""


@dataclass(frozen=True)
class ReportedRun:
    """A finished run, or an evaluation of one: then its `metrics` are those of that run."""

    path: Path
    config: Json
    evaluation: Json
    metrics: tuple[Json, ...]
    revision: Json

    @classmethod
    def read(cls, path: Path) -> ReportedRun:
        """Raises:
        ValueError, OSError: the folder is no run, or has not been evaluated.
        """
        folder = RunFolder.open(path)
        if not folder.evaluation_path.is_file():
            raise FileNotFoundError(
                f"{path}: has no evaluation.json yet; finish the run, or evaluate a checkpoint"
            )
        evaluation = json.loads(folder.evaluation_path.read_text(encoding="utf-8"))
        if "comparisons" not in evaluation:
            raise ValueError(
                f"{path}: was evaluated by an earlier version; run nextchapter evaluate run={path} "
                "and report the folder that it makes"
            )
        config = folder.load_config()
        return cls(
            folder.path,
            config,
            evaluation,
            _metrics(folder, config.get("run")),
            json.loads(folder.revision_path.read_text(encoding="utf-8")),
        )

    @property
    def name(self) -> str:
        return str(self.config.get("experiment_name", self.path.name))

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def agents(self) -> list[Json]:
        """The rows of agents that were trained; of evaluations with several, all of them.

        Of an ensemble the rows before and after it has learned, which have no decoding.
        """
        learners = [row for row in self.evaluation["rows"] if row["name"] in (UNTRAINED, TRAINED)]
        rows = [row for row in self.evaluation["rows"] if "decoding" in row] or learners
        return [row for row in rows if row["name"] != UNTRAINED] or rows

    @property
    def best_row(self) -> Json:
        """The row that the answer is about: the last agent, greedy where it was."""
        last = [row for row in self.agents if row["name"] == self.agents[-1]["name"]]
        return next((row for row in last if row.get("decoding") == "greedy"), last[0])

    def row(self, row_label: str) -> Json | None:
        return next((row for row in self.evaluation["rows"] if label(row) == row_label), None)

    def comparison(self, first: str, second: str) -> Json | None:
        pairs = self.evaluation["comparisons"]
        return next((c for c in pairs if (c["first"], c["second"]) == (first, second)), None)

    def gains_of(self, row_label: str) -> list[Json]:
        """The attempts of a row with the gains of their tokens."""
        path = self.path / TOKEN_GAINS
        return [a for a in read_lines(path) if a["row"] == row_label] if path.is_file() else []


@dataclass(frozen=True)
class Group:
    """Runs of one experiment, which differ in the seed."""

    name: str
    runs: tuple[ReportedRun, ...]

    @property
    def first(self) -> ReportedRun:
        return self.runs[0]


def grouped(runs: Sequence[ReportedRun]) -> list[Group]:
    """The runs by experiment, each under a name of its own: those of one name are told apart by the
    settings in which they differ, or by their folders."""
    groups: list[list[ReportedRun]] = []
    for run in runs:
        kin = next((g for g in groups if _are_kin(g, run)), None)
        if kin is None:
            groups.append([run])
        else:
            kin.append(run)
    names: list[str] = []
    for group in groups:
        same = [other[0] for other in groups if other[0].name == group[0].name]
        name = group[0].name if len(same) == 1 else _told_apart(group[0], same)
        names.append(name if name not in names else f"{name} {len(names) + 1}")
    return [
        Group(name, tuple(sorted(group, key=lambda run: run.seed)))
        for name, group in zip(names, groups, strict=True)
    ]


def _told_apart(run: ReportedRun, same: Sequence[ReportedRun]) -> str:
    """The name with as few settings as tell it from the others of that name, if there are such."""
    own = dict(_flat(_experiment(run)))
    others = [dict(_flat(_experiment(other))) for other in same if other is not run]
    shown: list[str] = []
    while others:
        # The first of those that tell it from the most.
        key = max(own, key=lambda k: sum(other.get(k) != own[k] for other in others))
        alike = [other for other in others if other.get(key) == own[key]]
        if len(alike) == len(others):
            return f"{run.name} ({run.path.name})"
        shown.append(f"{key}={own[key]}")
        others = alike
    difference = ", ".join(shown)
    return f"{run.name} ({difference if len(difference) <= LONGEST_DIFFERENCE else run.path.name})"


def _are_kin(group: Sequence[ReportedRun], run: ReportedRun) -> bool:
    is_new_seed = run.seed not in {other.seed for other in group}
    return is_new_seed and _experiment(group[0]) == _experiment(run)


def _experiment(run: ReportedRun) -> Any:
    """The settings without those that say where and with which seed.

    A checkpoint belongs to its run, so that it is named as it lies there.
    """
    config = dict(run.config)
    within = f"{config.get('run')}/"
    named = config.get("checkpoint")
    several = [named] if isinstance(named, str) else list(named or ())
    config["checkpoint"] = [str(name).removeprefix(within) for name in several] or None
    return _kept(config)


def _kept(settings: Any) -> Any:
    """What is empty is left out: an earlier version may have had no such setting."""
    if isinstance(settings, Mapping):
        return {
            key: _kept(value)
            for key, value in settings.items()
            if key not in NOT_THE_EXPERIMENT and value is not None
        }
    return settings


def _flat(settings: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def _metrics(folder: RunFolder, evaluated: str | None) -> tuple[Json, ...]:
    places = [folder, *([RunFolder(Path(evaluated))] if evaluated else [])]
    found = [place.metrics_path for place in places if place.metrics_path.is_file()]
    return tuple(read_lines(found[0])) if found else ()


def read_lines(path: Path) -> list[Json]:
    # Not `splitlines`, which cuts at separators that JSON may hold within a text.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
