"""What every place that runs jobs can do."""

from __future__ import annotations

from typing import Protocol

from launch.jobs.job import Job, JobFolder
from launch.jobs.settings import LaunchSettings


class Backend(Protocol):
    """A place that runs jobs. Its errors are `ValueError`s of one line."""

    def render(self, job: Job, settings: LaunchSettings) -> str:
        """The file that is handed over: a script or a manifest, to be read and kept."""
        ...

    def command(self, job: Job, settings: LaunchSettings) -> list[str]:
        """The command that hands it over."""
        ...

    def check(self, job: Job, settings: LaunchSettings) -> None:
        """Refuses what this place cannot run, before anything is written."""
        ...

    def submit(self, job: Job, settings: LaunchSettings) -> Job:
        """Hands the job over; its files are written. The job comes back with its id."""
        ...

    def state(self, job: Job) -> str | None:
        """What the place calls the job's present state; None once it has ended or is forgotten."""
        ...

    def cancel(self, job: Job) -> None: ...

    def script_log(self, job: Job) -> str:
        """The words of the script itself, such as why no node came to its start."""
        ...


def backend_of(name: str) -> Backend:
    """The place that `launch.backend` names."""
    if name == "local":
        from launch.jobs.local import LocalBackend

        return LocalBackend()
    if name == "slurm":
        from launch.jobs.slurm import SlurmBackend

        return SlurmBackend()
    if name == "ray":
        from launch.jobs.ray_jobs import RayBackend

        return RayBackend()
    from launch.jobs.kubernetes import KubernetesBackend

    return KubernetesBackend()


def state_of(folder: JobFolder) -> str | None:
    """Of the job that was launched in this folder; None where there is none, or it has ended."""
    if not folder.record_path.exists():
        return None
    job = folder.read()
    return backend_of(job.backend).state(job) if job.id else None
