"""`--multirun hydra/sweeper=optuna`: an optimiser chooses what each job of a sweep is to try.

A plugin of Hydra, as its other sweepers are: Hydra's launcher starts each trial, `nextchapter
launch train` makes a job of it, and this waits for results to choose the next by. What it knows it
reads from `trials.jsonl` and the trials' own folders, so it may be killed at any moment; jobs that
are queued or running do not mind, and the same command once more goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from launch.jobs.backend import state_of
from launch.jobs.job import JobFolder
from launch.sweeps.proposals import Told, propose
from launch.sweeps.settings import SweeperSettings
from launch.sweeps.space import Dimension, dimension
from train.config.validate import check
from train.files import write_json
from train.objective import FILE, Objective
from train.trials import FILE as TRIALS
from train.trials import Trial, note, read_trials

_LOST = "its job ended without a word; the scheduler's log may tell why"


class OptunaSweeper(Sweeper):
    """Chooses trials one by one, follows their jobs, and reports what they reached."""

    __module__ = "hydra_plugins.nextchapter"

    def __init__(self, **settings: Any) -> None:
        self.settings = check(SweeperSettings, settings, "hydra.sweeper")
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise ValueError(
                "hydra/sweeper=optuna: Optuna is not installed; pip install 'nextchapter[optuna]'"
            )
        if "launch" not in config:
            raise ValueError(
                "hydra/sweeper=optuna: makes a job of each trial; write nextchapter launch train "
                "--multirun"
            )
        if config.launch.dry_run:
            raise ValueError("--dry-run: shows one job; leave out --multirun and what varies")
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Plays all trials that are still to be played.

        Raises:
            ValueError: there is nothing to vary, or another sweep is, or was, in the folder.
        """
        assert self.config is not None and self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        dimensions = [dimension(item) for item in overrides if item.is_sweep_override()]
        if not dimensions:
            raise ValueError(
                "hydra/sweeper=optuna: nothing varies; give a setting choice(a,b), range(a,b), "
                "interval(a,b) or tag(log,interval(a,b))"
            )
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder):
            self._begin(folder, overrides)
            fixed = [_text(item) for item in overrides if not item.is_sweep_override()]
            self._play(folder, dimensions, fixed)

    def _begin(self, folder: Path, overrides: Sequence[Override]) -> None:
        """Notes what is searched for, or sees that it is what was searched for before."""
        # Where jobs run may change while a sweep goes on, and what they are judged by.
        arguments = sorted(
            str(item.input_line) for item in overrides if not _is_launching(item.key_or_group)
        )
        path = folder / FILE
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))["arguments"]
            if before != arguments:
                raise ValueError(
                    f"hydra.sweep.dir: {folder} was begun with other settings ({path}); give them "
                    "again, or choose another folder"
                )
        elif (folder / TRIALS).exists():
            raise ValueError(
                f"hydra.sweep.dir: {folder} holds trials that no optimiser chose; choose another "
                "folder"
            )
        said = {"metric": self.settings.metric, "direction": self.settings.direction}
        write_json(path, {"arguments": arguments, **said})

    def _play(self, folder: Path, dimensions: Sequence[Dimension], fixed: Sequence[str]) -> None:
        assert self.config is not None and self.launcher is not None
        objective = Objective(self.settings.metric, self.settings.direction)
        wanted = ("unfinished", "failed") if self.config.launch.retry_failed else ("unfinished",)
        again = [trial for trial in _known(folder).values() if trial.state in wanted]
        at_work: set[int] = set()
        while True:
            while len(at_work) < self.settings.n_jobs:
                chosen = (
                    _asked_before(again.pop(0), dimensions)
                    if again
                    else self._choose(folder, dimensions, objective)
                )
                if chosen is None:
                    break
                number, texts = chosen
                settings = [*fixed, *(f"{d.key}={texts[d.name]}" for d in dimensions)]
                for launched in self.launcher.launch([settings], initial_job_idx=number):
                    # A defect is raised here; what a user can mend is noted as a failure.
                    _ = launched.return_value
                at_work.add(number)
            if not at_work:
                break
            at_work -= self._wait(folder, at_work, objective)
        _conclude(folder, objective)

    def _choose(
        self, folder: Path, dimensions: Sequence[Dimension], objective: Objective
    ) -> tuple[int, dict[str, str]] | None:
        """The next trial and its settings; None where there are enough, or all were tried."""
        trials = _known(folder)
        number = max(trials, default=-1) + 1
        if number >= self.settings.n_trials:
            return None
        told = [_told(trial, objective) for trial in trials.values()]
        texts = propose(dimensions, told, self.settings, number)
        return None if texts is None else (number, texts)

    def _wait(self, folder: Path, at_work: set[int], objective: Objective) -> set[int]:
        """Those that have ended; waits for the first."""
        while True:
            # Asked first: a job that ends in between has written its results.
            alive = {number for number in at_work if _is_alive(folder / str(number))}
            known = _known(folder)
            ended = {number for number in at_work if known[number].state != "unfinished"}
            for number in at_work - alive - ended:
                note(folder, number, error=_LOST)
            if ended := ended | (at_work - alive):
                for number in sorted(ended):
                    print(_line(_known(folder)[number], objective), flush=True)
                return ended
            time.sleep(self.settings.poll_s)


def register() -> None:
    """Makes the sweeper known to Hydra, which takes plugins from the package hydra_plugins alone.

    A folder of that name would be one more top-level package; another name for this module does.
    """
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:
        package = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        package.__path__ = []
    sys.modules[OptunaSweeper.__module__] = sys.modules[__name__]
    setattr(package, OptunaSweeper.__module__.rpartition(".")[2], sys.modules[__name__])
    Plugins.instance().register(OptunaSweeper)


def _asked_before(trial: Trial, dimensions: Sequence[Dimension]) -> tuple[int, dict[str, str]]:
    return trial.number, {d.name: trial.settings[d.name] for d in dimensions}


def _told(trial: Trial, objective: Objective) -> Told:
    value = objective.value(trial)
    is_number = value is not None and math.isfinite(value)
    failed = trial.state == "failed" or (value is not None and not is_number)
    return Told(trial.settings, value if is_number else None, failed)


def _is_alive(run: Path) -> bool:
    """Whether the job of a trial waits or runs."""
    try:
        return state_of(JobFolder(run)) is not None
    except ValueError as error:
        # A controller that is started anew answers again, and the jobs do not mind.
        print(f"{run}: {error}; asking again", flush=True)
        return True


def _known(folder: Path) -> dict[int, Trial]:
    if not (folder / TRIALS).exists():
        return {}
    return {trial.number: trial for trial in read_trials(folder)}


def _line(trial: Trial, objective: Objective) -> str:
    value = objective.value(trial)
    told = trial.error if value is None else f"{objective.label} {value:+.4g}"
    return f"{trial.path}: {told}"


def _conclude(folder: Path, objective: Objective) -> None:
    told = [(trial, _told(trial, objective).value) for trial in _known(folder).values()]
    found = [(objective.sort_key(value), trial) for trial, value in told if value is not None]
    failed = sum(trial.state == "failed" for trial, _ in told)
    if found:
        _, best = min(found, key=lambda pair: pair[0])
        print(f"best: {_line(best, objective)}")
    print(
        f"{len(found)} of {len(told)} trials have a result, {failed} failed; see "
        f"nextchapter report sweep={folder}",
        flush=True,
    )


def _is_launching(key: str) -> bool:
    return key == "launch" or key.startswith("launch.")


def _text(override: Override) -> str:
    if override.is_delete():
        return str(override.input_line)
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The sweep's folder, for one optimiser at a time; the system lets go of it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"hydra.sweep.dir: another optimiser is at work in {folder}; wait for its end, or "
            "choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
