"""Runs a command through Hydra: composes its config, or starts from the config of an earlier run.

Hydra itself does the composing, the sweeping and the help, so that all of its options mean what
its users expect. What is added: unknown options and settings are named in one line, a refused
config leaves no folder behind, and every failed job of a sweep is reported at its end.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from launch.cli import EXIT_OK, Command, report
from launch.explain import UnknownSetting, explain, is_there_already, is_user_error, unknown_key
from launch.saved_run import SAVED_RUN_CONFIG, store_saved_run, take_saved_run
from launch.sweeps import sweeper
from train import ranks
from train.config.hints import did_you_mean
from train.monitors.stop import StoppedByMonitor
from train.preemption import Preempted
from train.progress import ProgressDisplay
from train.trials import note

_SWITCHES = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc"),
}
_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd"),
}
_FOLDERS = {"run_dir", "hydra.run.dir", "hydra.sweep.dir"}
_INFO = {"--info", "-i"}
_INFO_KINDS = {"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"}


def run_with_hydra(
    name: str, command: Command, argv: Sequence[str], config_dir: Path, show_traceback: bool
) -> int:
    """Runs the command once, or once per job of a sweep, and returns the exit status."""
    assert command.config_name is not None
    overrides, options = split_arguments(argv)
    config_name = command.config_name
    is_sweep = bool({"--multirun", "-m"} & set(options))
    if is_sweep:
        sweeper.register()
    if is_sweep and ranks.num_processes() > 1:
        raise ValueError(
            "--multirun: the jobs of a sweep run in one process each; start several processes "
            "(torchrun, srun) for one job at a time"
        )
    saved_run = take_saved_run(command, overrides)
    if saved_run is not None:
        if is_sweep and not command.saved_run_output:
            raise ValueError(f"{command.saved_run_key}: a run goes on alone; leave out --multirun")
        store_saved_run(command, saved_run, overrides, config_dir)
        config_name = SAVED_RUN_CONFIG
    else:
        asked = {override.partition("=")[0].partition(".")[0] for override in overrides}
        others = [name for key, name in command.config_names.items() if key in asked]
        config_name = others[0] if others else config_name

    jobs = _Jobs(name, command, missing=_missing_parents(overrides))
    # Hydra then lets exceptions through instead of printing them in a form of its own.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    run = hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)
    try:
        with (
            _own_folder() as own,
            _command_line(f"nextchapter {name}", *overrides, *own, *options),
        ):
            run(jobs.run)()
    except Exception as error:
        key = unknown_key(error)
        if key is None:
            raise
        if show_traceback:
            traceback.print_exception(error)
        group = key.partition(".")[0]
        if is_sweep and _is_swept(group, overrides):
            raise ValueError(
                f"{key}: not every {group} of this sweep is known to have it; sweep those that "
                f"have it alone, or, if all do, write ++{key}=VALUE"
            ) from error
        if is_there_already(error):
            raise
        known = _known_settings(config_dir, config_name, overrides, key)
        raise UnknownSetting(key, known) from error
    statuses = [report(f"{name}{label}", error, show_traceback) for label, error in jobs.failures]
    if not jobs.failures:
        ranks.leave()
    # Of several, a mistake comes before a run that a monitor stopped.
    return min(statuses, default=EXIT_OK)


def _is_swept(group: str, overrides: Sequence[str]) -> bool:
    """Whether the overrides try several options of this group."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return any(o.key_or_group == group and o.is_sweep_override() for o in parsed)


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides and Hydra's own options, which may stand in any order."""
    overrides: list[str] = []
    options: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        option = argument.partition("=")[0]
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        if option not in _SWITCHES | _WITH_VALUE | _INFO:
            setting = argument.lstrip("-").replace("-", "_")
            hint = did_you_mean(option, _SWITCHES | _WITH_VALUE | _INFO | {"--debug"})
            raise ValueError(
                f"{option}: no such option; {hint}settings are written without dashes: "
                f"{setting if '=' in setting else setting + '=VALUE'}"
            )
        options.append(argument)
        if option in _WITH_VALUE and "=" not in argument:
            if not rest:
                raise ValueError(f"{option}: wants a value after it")
            options.append(rest.pop(0))
        elif option in _INFO and rest and rest[0] in _INFO_KINDS:
            options.append(rest.pop(0))
    return overrides, options


@dataclass
class _Jobs:
    """The jobs of this command line, as Hydra calls them, and what went wrong in them."""

    name: str
    command: Command
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)
    missing: set[Path] = field(default_factory=set)
    """Folders above those that were asked for, which were not there before."""
    here_before: set[str] = field(default_factory=lambda: set(os.listdir()))

    def run(self, config: DictConfig) -> Any:
        folder = Path(HydraConfig.get().runtime.output_dir)
        with open_dict(config):
            config.run_dir = _as_seen_from_here(folder)
        before = _listing(folder)
        # Unresolved: an override may refer to what the config has not.
        task = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        self._note_trial(overrides=task)
        try:
            with ProgressDisplay().waiting("start"):
                start = self.command.load()
            return start(config)
        except Exception as error:
            self._note_trial(error=explain(error))
            is_stop = isinstance(error, StoppedByMonitor)
            if not is_stop and _listing(folder) not in (before, set()):
                # The line on the terminal says what to mend; this says where it happened. The line
                # comes also where the disk is full.
                with suppress(OSError):
                    (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            if not is_user_error(error) or os.getpid() != self.pid:
                raise
            job = HydraConfig.get().job
            # Only the jobs of a sweep are numbered.
            label = "" if OmegaConf.is_missing(job, "num") else f" (job {job.num})"
            self.failures.append((label, error))
            return None
        except (KeyboardInterrupt, Preempted) as stop:
            # A run that goes on in its own folder, rather than one that only reads it.
            if not self.command.saved_run_output and (folder / "config.yaml").exists():
                hint = f"; go on with: nextchapter {self.name} {self.command.saved_run_key}="
                raise type(stop)(f"{stop}{hint}{config.run_dir}") from None
            raise
        finally:
            _remove_if_empty(folder)
            if folder.parent.name == self.command.saved_run_output.partition("/")[0]:
                _remove_if_empty(folder.parent)
            self._remove_new_parents(folder)

    def _remove_new_parents(self, folder: Path) -> None:
        """`runs/` goes as well where Hydra made it for this folder alone."""
        here = Path.cwd()
        for parent in folder.parents:
            inside = parent.relative_to(here).parts if parent.is_relative_to(here) else ()
            if parent in self.missing or (inside and inside[0] not in self.here_before):
                _remove_if_empty(parent)

    def _note_trial(self, **told: Any) -> None:
        """Of a sweep, its folder knows what was asked of each job, and what was refused."""
        config = HydraConfig.get()
        if config.mode == RunMode.MULTIRUN and ranks.is_main():
            with suppress(OSError):
                note(Path(config.sweep.dir), config.job.num, **told)


def _missing_parents(overrides: Sequence[str]) -> set[Path]:
    """Of the folders that the overrides name, those above them that are not there yet."""
    given = [o for o in overrides if o.partition("=")[0].lstrip("+") in _FOLDERS]
    parsed = OverridesParser.create().parse_overrides(given)
    values = [str(o.value()) for o in parsed if not o.is_sweep_override()]
    parents = {parent for value in values for parent in Path(os.path.abspath(value)).parents}
    return {parent for parent in parents if not parent.exists()}


def _as_seen_from_here(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _listing(folder: Path) -> set[tuple[str, int]]:
    return {(entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(folder)}


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and folder != Path.cwd():
        # A folder with something in it refuses, and so does one that is mounted.
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _own_folder() -> Iterator[list[str]]:
    """Overrides for a process beside the main one: what it logs stays out of the run's folder."""
    if ranks.is_main():
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [f"hydra.run.dir={folder}/run", "hydra/job_logging=none"]


@contextmanager
def _command_line(*argv: str) -> Iterator[None]:
    """Hydra takes its arguments from `sys.argv` alone."""
    before = sys.argv
    sys.argv = list(argv)
    try:
        yield
    finally:
        sys.argv = before


def _known_settings(
    config_dir: Path, config_name: str, overrides: Sequence[str], wrong: str
) -> list[str]:
    """The keys and groups that `wrong` may have been meant for."""
    groups = [
        path.relative_to(config_dir).as_posix() for path in config_dir.rglob("*") if path.is_dir()
    ]
    others = [item for item in overrides if item.lstrip("+~").partition("=")[0] != wrong]
    for attempt in (others, []):
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
                config = hydra.compose(config_name, overrides=attempt)
        except Exception:
            # A second wrong override: suggestions then come from the config without any.
            continue
        return [*groups, *_keys(OmegaConf.to_container(config))]
    return groups


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        key
        for name, item in value.items()
        for key in (f"{prefix}{name}", *_keys(item, f"{prefix}{name}."))
    ]
