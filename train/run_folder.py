"""The folder of one run: what was asked for, with which code, and everything that came out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from train import ranks
from train.config.validate import plain
from train.files import write_json, write_text

_REPORTED_PACKAGES = (
    *("torch", "transformers", "trl", "peft", "tokenizers", "safetensors", "datasets"),
    *("accelerate", "deepspeed", "numpy", "pydantic", "hydra-core", "omegaconf"),
)
# The longest that a process whose node is gone may take for its step and its checkpoint.
SECONDS_TO_LET_GO = 300
# Settings whose value stays out of every file and log, whoever put it into the config.
_SECRETS = ("api_key", "apikey", "password", "secret", "access_token", "auth_token", "hf_token")
REDACTED = "<redacted>"

_README_NAME, _LOCK_NAME = "README.md", ".lock"
_README = """\
# A run of nextchapter

| file | what it is |
|---|---|
| `config.yaml` | the settings of this run, complete and with nothing left to look up |
| `revision.json` | the code: git revision, changes on top of it, package versions |
| `metrics.jsonl` | one line per logged step: `step`, `time_s` (seconds since 1970), measurements |
| `tables/` | logged tables, such as sampled rollouts: one JSON line per row |
| `tensorboard/` | the same measurements: `tensorboard --logdir {path}` |
| `wandb/` | the same for Weights & Biases: `wandb sync {path}/wandb/offline-*` |
| `learning_curve.png` | the learning curve as a picture |
| `policy/` | the trained agent, for `from_pretrained` |
| `generator/` | the frozen generator, where the run trained it |
| `warm_start/` | the untrained agent, where the run taught it the form of a plan |
| `sft_baseline/` | the generator fine-tuned on chapters, where the run has that baseline |
| `checkpoints/` | states to go on from; each loads with `from_pretrained` |
| `evaluation.json` | improvement in per cent on unseen books, with controls |
| `evaluation.csv`, `parts.csv`, `texts.csv`, `comparisons.csv`, `*.tex` | its tables, for a paper |
| `token_gains.jsonl` | what each plan gained on each token of the chapter |
| `improvements.csv` | improvement of every episode under every row of that table |
| `comparisons.jsonl` | chapters that the generator wrote with each plan, for judges |
| `members.json` | what members behind endpoints were asked and paid, of all starts together |
| `examples.md` | context, plan and chapter side by side |
| `evaluations/` | later evaluations of this run, a folder each |
| `nextchapter.log` | messages |
| `job/` | where it was launched: the job's script, its attempts, a log for each process |

A file is there once its stage is done.

    nextchapter train resume={path}      # go on where it stopped
    nextchapter evaluate run={path}      # evaluate on unseen books
    nextchapter report run={path}        # one page on what it has shown
"""


@dataclass
class RunFolder:
    """A run folder that exists. One process at a time holds it to write; `close` lets go of it.

    Of several processes of one run the main one holds it, and the others only know where it is.
    """

    path: Path
    _lock: FileLock | None = field(default=None, repr=False)

    @classmethod
    def create(cls, path: Path | str, config: DictConfig | Mapping[str, Any]) -> RunFolder:
        """A new run in a new or empty folder, held for this process."""
        folder = cls(Path(path))
        if folder.config_path.exists():
            raise ValueError(
                f"{folder.path}: holds a run already; go on with it by resume={folder.path}, or "
                "choose another folder with run_dir=PATH"
            )
        text = _as_saved(config)
        folder.path.mkdir(parents=True, exist_ok=True)
        # A log file may be there before the run is, and the lock of one that is about to be.
        others = [p.name for p in folder.path.iterdir() if not p.name.endswith((".log", ".lock"))]
        if others:
            raise ValueError(
                f"{folder.path}: is not empty (it holds {sorted(others)[0]}); choose a new folder "
                "with run_dir=PATH"
            )
        folder._hold()
        try:
            write_json(folder.revision_path, revision())
            write_text(folder.path / _README_NAME, _README.format(path=folder.path))
            # Last, because it is what makes the folder a run.
            write_text(folder.config_path, text)
        except BaseException:
            folder.withdraw()
            raise
        return folder

    @classmethod
    def for_evaluation(cls, path: Path | str, config: DictConfig | Mapping[str, Any]) -> RunFolder:
        """A new folder; or that of an evaluation with the same settings which did not end, so that
        the same command goes on with what a kill has stopped.
        """
        known = cls(Path(path))
        if known.config_path.is_file() and not known.evaluation_path.exists():
            held = cls.open(path, to_write=True)
            if held.load_config() == yaml.safe_load(_as_saved(config)):
                return held
            held.close()
        return cls.create(path, config)

    @classmethod
    def open(cls, path: Path | str, *, to_write: bool = False) -> RunFolder:
        """An earlier run, to read; or to go on with, held for this process."""
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise FileNotFoundError(f"{folder.path}: no such run folder; runs are under runs/")
        if not folder.config_path.is_file():
            raise FileNotFoundError(
                f"{folder.path}: not a run folder, {folder.config_path.name} is missing in it; "
                "give the folder of a run, runs/<run>"
            )
        if to_write:
            folder._hold()
        return folder

    @classmethod
    def of_all_ranks(cls, hold: Callable[[], RunFolder]) -> RunFolder:
        """The folder that the main process creates or opens by `hold`, in every process.

        Raises:
            ValueError, OSError: in every process, what the main process raised.
        """
        held: list[RunFolder] = []

        def hold_for_all() -> str:
            held.append(hold())
            return str(held[0].path)

        path = ranks.from_main(hold_for_all)
        return held[0] if held else cls(Path(path))

    def load_config(self) -> dict[str, Any]:
        """The saved settings, as they were composed and resolved."""
        try:
            config = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.config_path}: not readable as YAML; restore it") from error
        if not isinstance(config, dict):
            raise ValueError(f"{self.config_path}: holds no settings; restore it")
        return config

    def withdraw(self) -> None:
        """Takes back what `create` made, as where a disk is full; logs of others stay."""
        # First, because it is what makes the folder a run.
        for name in (self.config_path.name, self.revision_path.name, _README_NAME, _LOCK_NAME):
            (self.path / name).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _hold(self) -> None:
        lock = FileLock(self.path / _LOCK_NAME)
        # A job that is started again waits until what is left of its last attempt has saved.
        patience_s = SECONDS_TO_LET_GO if "NEXTCHAPTER_BEAT" in os.environ else 0
        try:
            lock.acquire(timeout=patience_s, poll_interval=0.5)
        except Timeout as error:
            raise ValueError(
                f"{self.path}: another process is at work in this run; wait for its end, or stop it"
            ) from error
        self._lock = lock

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def revision_path(self) -> Path:
        return self.path / "revision.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tables_dir(self) -> Path:
        return self.path / "tables"

    @property
    def tensorboard_dir(self) -> Path:
        return self.path / "tensorboard"

    @property
    def wandb_dir(self) -> Path:
        return self.path / "wandb"

    @property
    def learning_curve_path(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def policy_dir(self) -> Path:
        return self.path / "policy"

    def model_dir(self, stage: str) -> Path:
        """Where the run keeps what an earlier stage trained and evaluation needs again."""
        return self.path / stage

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluation_path(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def examples_path(self) -> Path:
        return self.path / "examples.md"


def _as_saved(config: DictConfig | Mapping[str, Any]) -> str:
    return yaml.safe_dump(redacted(plain(config)), sort_keys=False, allow_unicode=True)


def redacted(value: Any) -> Any:
    """The value with the settings that are secrets by name left out."""
    if isinstance(value, Mapping):
        return {
            name: REDACTED if item and _is_secret(name) else redacted(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and name.lower().endswith(_SECRETS)


def revision() -> dict[str, Any]:
    """Which code this is. `git` is null where the code does not come from a git checkout."""
    return {
        "git": _git_state(Path(__file__).resolve()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in ("nextchapter", *_REPORTED_PACKAGES)},
    }


def _git_state(source: Path) -> dict[str, Any] | None:
    # An installed copy may lie inside the checkout of something else, which says nothing about it.
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    head = _git(source.parent, "rev-parse", "HEAD")
    status = _git(source.parent, "status", "--porcelain")
    return None if head is None else {"revision": head, "dirty": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
