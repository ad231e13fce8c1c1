"""Shell scripts of jobs, from templates; every value in them is quoted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from launch.jobs.job import Job
from launch.jobs.settings import LaunchSettings

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def render(template: str, job: Job, settings: LaunchSettings, **more: Any) -> str:
    """A script from a template beside this file.

    Raises:
        ValueError: a path has a line break or the like, and would end the comment that names it.
    """
    for path in (job.run, str(Path.cwd())):
        refuse_control_characters("run_dir", path)
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    return environment.get_template(template).render(
        job=job,
        settings=settings,
        folder=job.folder,
        work_dir=Path.cwd(),
        environment=environment_of(settings),
        **more,
    )


def refuse_control_characters(key: str, text: str) -> None:
    if _CONTROL.search(text):
        raise ValueError(f"{key}: {text!r} has a control character; leave it out")


def environment_of(settings: LaunchSettings) -> dict[str, str]:
    """Environment variables that the job gets beside those of the shell that launches."""
    offline = _OFFLINE if settings.offline else {}
    on_cpu = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return offline | (on_cpu if settings.device == "cpu" else {}) | dict(settings.environment)


def ask(command: Sequence[str], what_for: str) -> subprocess.CompletedProcess[str]:
    """Runs a scheduler's command to its end; a minute is enough for a scheduler that lives.

    Raises:
        ValueError: the command is not there, or does not answer.
    """
    try:
        return subprocess.run(
            list(command), capture_output=True, text=True, timeout=60, check=False, env=os.environ
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"launch: {command[0]} is not on this machine, and {what_for} needs it; run this where "
            "it is, or choose launch=local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"launch: {command[0]} did not answer within 60 s; try again") from error


def one_line(text: str) -> str:
    return " ".join(text.split())
