"""Jobs of a Ray cluster, through its job submission client."""

from __future__ import annotations

import os
import shlex
from typing import Any

from launch.jobs.job import Job
from launch.jobs.settings import LaunchSettings, RaySettings
from launch.jobs.shell import one_line, render

_RUNNING = {"PENDING", "RUNNING"}


class RayBackend:
    """Hands the job's script to the cluster's dashboard.

    The script runs beside the dashboard and places one node of the job on each of so many hosts.
    """

    def render(self, job: Job, settings: LaunchSettings) -> str:
        assert isinstance(settings, RaySettings)
        gpus = job.processes_per_node if settings.device == "gpu" else 0
        node = f"launch.jobs.ray_nodes --cpus={settings.cpus_per_node} --gpus={gpus}"
        return render("local.sh.jinja", job, settings, node=node)

    def command(self, job: Job, settings: LaunchSettings) -> list[str]:
        assert isinstance(settings, RaySettings)
        submit = ["ray", "job", "submit", f"--address={settings.address}", "--no-wait"]
        return [*submit, f"--submission-id={_id(job)}", "--", *_entrypoint(job)]

    def check(self, job: Job, settings: LaunchSettings) -> None:
        assert isinstance(settings, RaySettings)
        _client(settings.address)

    def submit(self, job: Job, settings: LaunchSettings) -> Job:
        assert isinstance(settings, RaySettings)
        client = _client(settings.address)
        try:
            submitted = client.submit_job(
                entrypoint=shlex.join(_entrypoint(job)), submission_id=_id(job)
            )
        except RuntimeError as error:
            raise ValueError(f"launch: Ray refused the job ({_reason(error)})") from error
        return job.with_id(submitted)

    def state(self, job: Job) -> str | None:
        assert job.id is not None
        try:
            state = str(_client(job.place["address"]).get_job_status(job.id).value)
        except RuntimeError:
            # A cluster that was started anew has forgotten its jobs.
            return None
        return state if state in _RUNNING else None

    def cancel(self, job: Job) -> None:
        assert job.id is not None
        client = _client(job.place["address"])
        try:
            client.stop_job(job.id)
        except RuntimeError as error:
            raise ValueError(f"launch: Ray did not stop the job ({_reason(error)})") from error

    def script_log(self, job: Job) -> str:
        client = _client(job.place["address"])
        try:
            return client.get_job_logs(job.id)
        except RuntimeError as error:
            raise ValueError(
                f"launch: Ray has no log of {job.id} ({_reason(error)}); a cluster that was "
                "started anew has forgotten its jobs"
            ) from error


def _id(job: Job) -> str:
    return f"nextchapter-{job.submission}"


def _entrypoint(job: Job) -> list[str]:
    return ["bash", str(job.script_path)]


def _reason(error: RuntimeError) -> str:
    return one_line(str(error))[:300]


def _client(address: str) -> Any:
    try:
        from ray.job_submission import (  # pyright: ignore[reportMissingImports]
            JobSubmissionClient,
        )
    except ImportError as error:
        raise ValueError(
            "launch=ray: Ray is not installed; pip install 'nextchapter[ray]'"
        ) from error
    try:
        return JobSubmissionClient(address)
    except ConnectionError as error:
        raise ValueError(
            f"launch.address: no Ray dashboard answers at {address}; start the cluster, or give "
            "its address"
        ) from error
    except Exception as error:
        # Ray has several kinds of errors for a token that is missing or wrong, and others.
        has_token = "is set" if os.environ.get("RAY_AUTH_TOKEN") else "is not set"
        raise ValueError(
            f"launch.address: Ray at {address} refused ({one_line(str(error))[:200]}); "
            f"RAY_AUTH_TOKEN {has_token}"
        ) from error
