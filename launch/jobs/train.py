"""`nextchapter launch train`: a composed config becomes a job.

The run's folder is made here, with the whole config in it. The job, its first start and every
later one, is then the same: `nextchapter train resume=RUN`, which goes on from what is there.
"""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from launch.cli import EXIT_PREEMPTED
from launch.explain import explain
from launch.jobs.backend import Backend, backend_of, state_of
from launch.jobs.job import Job, JobFolder
from launch.jobs.local import wait
from launch.jobs.prefetch import pinned
from launch.jobs.settings import (
    KubernetesSettings,
    LaunchSettings,
    LocalSettings,
    RaySettings,
    parse_launch,
)
from train.config.validate import parse, plain
from train.files import write_text
from train.run_folder import RunFolder, redacted
from train.schema import RunConfig
from train.trials import END

# Where a trial lies is no setting of it.
_PLACES = {"run_dir", "resume"}


def run(config: DictConfig) -> None:
    """Launches, or prints what would be launched.

    Raises:
        ValueError: a setting is wrong, the scheduler refuses, or a job is at work in the folder.
    """
    content = plain(config)
    launch = parse_launch(content.pop("launch", None))
    settings = parse(RunConfig, content)
    if HydraConfig.get().mode == RunMode.MULTIRUN and is_run(Path(settings.run_dir)):
        reason = why_not_again(Path(settings.run_dir), content, launch.retry_failed)
        if reason is not None:
            print(f"{settings.run_dir}: {reason}", flush=True)
            return
        settings = replace(settings, resume=settings.run_dir)
    job = make_job(settings, launch)
    backend = backend_of(job.backend)
    if launch.dry_run:
        _show(job, launch, backend)
        return
    backend.check(job, launch)
    # Pods and Ray's hosts have caches of their own.
    if launch.offline and launch.backend in ("local", "slurm"):
        content = with_revisions(content, pinned(content))
    with _folder(settings, content, Path(job.run)) as folder:
        _refuse_second(job.folder)
        try:
            _write(job, launch, backend)
            job = backend.submit(job, launch)
            job.folder.write(job)
        except BaseException as error:
            try:
                if job.id is not None:
                    _take_back(job, backend, error)
            finally:
                if not settings.resume:
                    shutil.rmtree(job.folder.path, ignore_errors=True)
                    folder.withdraw()
            raise
    shown = settings.resume or settings.run_dir
    print(f"{job.backend} job {job.id}: nextchapter launch status {shown}", flush=True)
    # The run's folder is free again: the job takes it.
    if isinstance(launch, LocalSettings) and not launch.detach:
        status = wait(job)
        # The trials of a sweep come one after the other, unless it was asked to leave.
        if HydraConfig.get().mode != RunMode.MULTIRUN or status == EXIT_PREEMPTED:
            raise SystemExit(status)


def with_revisions(content: dict[str, Any], commits: Mapping[str, str]) -> dict[str, Any]:
    """The config with every model of the Hub at the commit that the cache has."""
    changed = copy.deepcopy(content)
    for key, commit in commits.items():
        node: Any = changed
        *path, name = key.split(".")
        for part in path:
            node = node[int(part)] if isinstance(node, list) else node[part]
        node[name] = commit
    return changed


def make_job(settings: RunConfig, launch: LaunchSettings) -> Job:
    run_dir = Path(settings.resume or settings.run_dir).absolute()
    return Job(
        run=str(run_dir),
        backend=launch.backend,
        submission=uuid.uuid4().hex[:12],
        arguments=("train", f"resume={quoted(str(run_dir))}", *_changes(settings)),
        nodes=settings.hardware.nodes,
        processes_per_node=settings.hardware.gpus_per_node,
        python=launch.python or sys.executable,
        max_restarts=launch.max_restarts,
        hang_after_s=launch.hang_after_s,
        rendezvous_timeout_s=launch.rendezvous_timeout_s,
        place=_place(launch),
        submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _place(launch: LaunchSettings) -> dict[str, str]:
    if isinstance(launch, RaySettings):
        return {"address": launch.address}
    return {"namespace": launch.namespace} if isinstance(launch, KubernetesSettings) else {}


def quoted(text: str) -> str:
    """The text as a value of an override, whatever stands in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def _changes(settings: RunConfig) -> list[str]:
    """Settings that an earlier run gets on top of those that it saved."""
    if settings.resume is None or HydraConfig.get().mode == RunMode.MULTIRUN:
        return []
    given = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(given, list)
    return [str(text) for text in given if not str(text).lstrip("+~").startswith("launch")]


def _folder(settings: RunConfig, content: dict[str, Any], path: Path) -> RunFolder:
    """The run's folder, held, so that of two launches at once one is refused."""
    if settings.resume:
        return RunFolder.open(path, to_write=True)
    return RunFolder.create(path, content)


def is_run(path: Path) -> bool:
    return RunFolder(path).config_path.exists()


def why_not_again(path: Path, content: Mapping[str, Any], retry_failed: bool) -> str | None:
    """Why a trial of a sweep that is launched again is left alone; None where it is to go on.

    Raises:
        ValueError: the folder holds a trial with other settings.
    """
    folder = RunFolder.open(path)
    asked = redacted(dict(content))
    if any(folder.load_config().get(name) != asked[name] for name in asked.keys() - _PLACES):
        raise ValueError(
            f"hydra.sweep.dir: {path} was begun with other settings; give them again, or choose "
            "another folder"
        )
    if folder.evaluation_path.is_file():
        return "done already"
    if state := state_of(JobFolder(path)):
        return f"its job is {state}"
    end = path / END
    if end.is_file() and not retry_failed:
        return "failed; launch.retry_failed=true tries it again"
    return None


def _refuse_second(folder: JobFolder) -> None:
    state = state_of(folder)
    if state is not None:
        earlier = folder.read()
        raise ValueError(
            f"{folder.run}: {earlier.backend} job {earlier.id} is {state} in this run; wait for "
            f"its end, or nextchapter launch cancel {folder.run}"
        )


def _write(job: Job, launch: LaunchSettings, backend: Backend) -> None:
    job.folder.write(job)
    (Path(job.run) / END).unlink(missing_ok=True)
    # A new file: a shell that still reads the old one goes on with that.
    write_text(job.script_path, backend.render(job, launch))
    os.chmod(job.script_path, 0o755)


def _take_back(job: Job, backend: Backend, error: BaseException) -> None:
    """Ends a job without a record: nobody could follow it, and no second one would be refused.

    Raises:
        ValueError: it could not be ended; the line has its id, which is nowhere else.
    """
    with suppress(OSError):
        # Nothing queues it again.
        write_text(job.folder.cancelled_path, job.submission)
    try:
        backend.cancel(job)
    except ValueError as refused:
        why = explain(error) if isinstance(error, Exception) else type(error).__name__
        raise ValueError(
            f"{job.backend} job {job.id} has no record ({why}) and could not be "
            f"cancelled ({explain(refused)}); cancel it with the scheduler's own command"
        ) from error


def _show(job: Job, launch: LaunchSettings, backend: Backend) -> None:
    print(f"# {job.script_path}")
    print(backend.render(job, launch).rstrip("\n"))
    print(f"\n# on every node, for each of its processes:\n# {shlex.join(_process(job))}")
    print(f"\n# then\n{shlex.join(backend.command(job, launch))}")


def _process(job: Job) -> list[str]:
    return [job.python, "-P", "-m", "launch.jobs.rank", *job.arguments]
