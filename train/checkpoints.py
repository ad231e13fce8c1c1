"""The checkpoints of a run: each is there and whole, or not there; a damaged one is passed over.

The trainer writes into a staging folder beside them. `keep` adds what the run has to remember and
a manifest, forces all of it to the disk, and only then renames it into its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from torch import nn

from train import ranks
from train.files import sync, sync_tree, write_json
from train.manifest import Damaged, Manifest, read_manifest, write_manifest
from train.settings.checkpoints import CheckpointConfig

STAGING = ".saving"
PARTS = "parts.json"
DAMAGED = ".damaged"
SAMPLED_NUMBERS = 1024


class Stateful(Protocol):
    """A part of a run that a checkpoint has to remember, as JSON."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    path: Path

    @property
    def step(self) -> int:
        """Optimizer steps that were done."""
        return int(self.path.name.removeprefix("checkpoint-"))

    def restore(self, parts: Mapping[str, Stateful]) -> None:
        """Puts the parts of a run back to where they were."""
        states = json.loads((self.path / PARTS).read_text(encoding="utf-8"))
        for name, part in parts.items():
            if name not in states:
                raise ValueError(
                    f"{self.path}: says nothing of '{name}', so another version saved it; go on "
                    "with that version, or begin a new run"
                )
            part.restore(states[name])


class Checkpoints:
    """The checkpoints in one folder. `made_from` identifies what this run's are made from.

    All processes call every method together; the main one works on the files.
    """

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        made_from: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.config = config
        self.made_from = dict(made_from)
        self.say = say

    @property
    def staging_dir(self) -> Path:
        """Where the trainer writes `checkpoint-<step>`."""
        return self.folder / STAGING

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None before the first.

        Raises:
            ValueError: it was made from something else, or none that is left is whole.
        """
        # On a shared disk the other processes may see it later than the main one.
        name = ranks.from_main(self._newest)
        return Checkpoint(self.folder / name) if name else None

    def keep(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Puts the staged checkpoint in its place, and removes those that the policy gives up."""
        # Every process has its part in it: the state of its random numbers, a shard.
        PartialState().wait_for_everyone()
        ranks.from_main(lambda: self._keep(step, parts))

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Says what is lost and what is not where saving failed, and clears what it left."""
        try:
            yield
        except Exception as error:
            unfinished = _steps(self.staging_dir)
            # The disk is in order where another process was lost, and the run goes on by itself.
            if not unfinished or ranks.lost_another(error):
                raise
            kept = _steps(self.folder)
            left = f"checkpoint-{max(kept)} is whole" if kept else "there is no earlier one"
            raise OSError(
                f"{self.folder}: checkpoint-{max(unfinished)} could not be saved "
                f"({' '.join(str(error).split())}; {_free_gb(self.folder)} GB free), {left}; make "
                f"room, then go on with nextchapter train resume={self.folder.parent}"
            ) from error
        finally:
            if ranks.is_main():
                shutil.rmtree(self.staging_dir, ignore_errors=True)

    def _newest(self) -> str:
        """The name of the checkpoint to go on from; empty for none."""
        self.folder.mkdir(exist_ok=True)
        # What a killed process left; no other process is at work here, under the run's lock.
        shutil.rmtree(self.staging_dir, ignore_errors=True)
        for step in sorted(_steps(self.folder), reverse=True):
            path = self.folder / f"checkpoint-{step}"
            try:
                manifest = read_manifest(path)
            except Damaged as damage:
                self._set_aside(path, damage)
                continue
            self._check(path, manifest)
            return path.name
        damaged = sorted(path.name for path in self.folder.glob(f"checkpoint-*{DAMAGED}"))
        if damaged:
            raise ValueError(
                f"{self.folder}: no checkpoint is whole ({', '.join(damaged)}); put back a copy, "
                "or delete these to train from the start"
            )
        return ""

    def _set_aside(self, path: Path, damage: Damaged) -> None:
        aside = path.with_name(path.name + DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
        self.say(f"WARNING: {path}: {damage}; set aside as {aside.name}, trying the one before it")

    def _check(self, path: Path, manifest: Manifest) -> None:
        names = {*self.made_from, *manifest.made_from}
        other = [n for n in sorted(names) if self.made_from.get(n) != manifest.made_from.get(n)]
        if other:
            raise ValueError(
                f"{path}: was made from another {' and '.join(other)} than this run has now; take "
                "back what changed it, or begin a new run"
            )
        processes = ranks.num_processes()
        if manifest.processes != processes:
            self.say(
                f"WARNING: {path}: was saved by {manifest.processes} processes and goes on with "
                f"{processes}; their random numbers differ from those of an uninterrupted run"
            )

    def _keep(self, step: int, parts: Mapping[str, Stateful]) -> str:
        staged = self.staging_dir / f"checkpoint-{step}"
        # A pickle of settings that nobody reads.
        (staged / "training_args.bin").unlink(missing_ok=True)
        write_json(staged / PARTS, {name: part.state() for name, part in parts.items()})
        write_manifest(staged, step, ranks.num_processes(), self.made_from)
        sync_tree(staged)
        os.replace(staged, self.folder / staged.name)
        sync(self.folder)
        self._prune()
        return staged.name

    def _prune(self) -> None:
        steps = sorted(_steps(self.folder))
        every = self.config.keep_every
        for step in steps[: -self.config.keep_last]:
            if every is None or step % every:
                # Under another name first: a half-deleted one must not look damaged.
                old = self.staging_dir / f"old-{step}"
                os.replace(self.folder / f"checkpoint-{step}", old)
                shutil.rmtree(old)


def _steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder."""
    found = [re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*")]
    return [int(match[1]) for match in found if match]


def _free_gb(folder: Path) -> float:
    return round(shutil.disk_usage(folder).free / 1e9, 1)


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over name, shape and first numbers of every parameter: enough to tell models apart.

    It depends on the weights and on no path or date, and costs no pass over all of them.
    """
    fingerprint = hashlib.sha256()
    for name, weights in sorted(model.named_parameters()):
        # ZeRO-3 leaves a process an empty tensor, and the shape under another name.
        shape = tuple(getattr(weights, "ds_shape", weights.shape))
        fingerprint.update(f"{name}:{shape}:{weights.dtype}\0".encode())
        first = weights.detach().flatten()[:SAMPLED_NUMBERS].cpu().contiguous()
        fingerprint.update(first.view(torch.uint8).numpy().tobytes())
    return fingerprint.hexdigest()
