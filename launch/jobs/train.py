"""`nextchapter launch train`: a composed config becomes a job.

The run's folder is made here, with the whole config in it. The job, its first start and every
later one, is then the same: `nextchapter train resume=RUN`, which goes on from what is there.
"""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from launch.jobs.backend import Backend, backend_of
from launch.jobs.job import Job, JobFolder
from launch.jobs.local import wait
from launch.jobs.settings import LaunchSettings, LocalSettings, parse_launch
from train.config.validate import parse, plain
from train.run_folder import RunFolder
from train.schema import RunConfig


def run(config: DictConfig) -> None:
    """Launches, or prints what would be launched.

    Raises:
        ValueError: a setting is wrong, the scheduler refuses, or a job is at work in the folder.
    """
    content = plain(config)
    launch = parse_launch(content.pop("launch", None))
    settings = parse(RunConfig, content)
    job = make_job(settings, launch)
    backend = backend_of(job.backend)
    if launch.dry_run:
        _show(job, launch, backend)
        return
    backend.check(job, launch)
    with _folder(settings, content, Path(job.run)):
        _refuse_second(job.folder)
        _write(job, launch, backend)
        job = backend.submit(job, launch)
        job.folder.write(job)
    shown = settings.resume or settings.run_dir
    print(f"{job.backend} job {job.id}: nextchapter launch status {shown}", flush=True)
    # The run's folder is free again: the job takes it.
    if isinstance(launch, LocalSettings) and not launch.detach:
        wait(job)


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
        submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def quoted(text: str) -> str:
    """The text as a value of an override, whatever stands in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def _changes(settings: RunConfig) -> list[str]:
    """Settings that an earlier run gets on top of those that it saved."""
    if settings.resume is None:
        return []
    given = HydraConfig.get().overrides.task
    return [text for text in given if not text.lstrip("+~").startswith("launch")]


def _folder(settings: RunConfig, content: dict[str, Any], path: Path) -> RunFolder:
    """The run's folder, held, so that of two launches at once one is refused."""
    if settings.resume:
        return RunFolder.open(path, to_write=True)
    return RunFolder.create(path, content)


def _refuse_second(folder: JobFolder) -> None:
    if not folder.record_path.exists():
        return
    earlier = folder.read()
    state = backend_of(earlier.backend).state(earlier) if earlier.id else None
    if state is not None:
        raise ValueError(
            f"{folder.run}: {earlier.backend} job {earlier.id} is {state} in this run; wait for "
            f"its end, or nextchapter launch cancel {folder.run}"
        )


def _write(job: Job, launch: LaunchSettings, backend: Backend) -> None:
    job.folder.write(job)
    job.folder.script_path.write_text(backend.render(job, launch), encoding="utf-8")
    os.chmod(job.folder.script_path, 0o755)


def _show(job: Job, launch: LaunchSettings, backend: Backend) -> None:
    print(f"# {job.folder.script_path}")
    print(backend.render(job, launch).rstrip("\n"))
    print(f"\n# on every node, for each of its processes:\n# {shlex.join(_process(job))}")
    print(f"\n# then\n{shlex.join(backend.command(job, launch))}")


def _process(job: Job) -> list[str]:
    return [job.python, "-P", "-m", "launch.jobs.rank", *job.arguments]
