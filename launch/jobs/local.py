"""Jobs on this machine: one process, or one for each GPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from launch.jobs.job import Job
from launch.jobs.node import alive_lock
from launch.jobs.settings import LaunchSettings, LocalSettings
from launch.jobs.shell import render

# Scripts that this process started, by their ids: their statuses are for `wait` to take.
_started: dict[str, subprocess.Popen[bytes]] = {}


class LocalBackend:
    """Runs the job's script under bash, in front or, with `launch.detach`, behind."""

    def render(self, job: Job, settings: LaunchSettings) -> str:
        return render("local.sh.jinja", job, settings, node="launch.jobs.node")

    def command(self, job: Job, settings: LaunchSettings) -> list[str]:
        return ["bash", str(job.script_path)]

    def check(self, job: Job, settings: LaunchSettings) -> None:
        if job.nodes != 1:
            raise ValueError(
                f"hardware.nodes: launch=local is one machine; got {job.nodes}. Choose launch=slurm"
            )
        gpus = num_gpus()
        wanted = settings.device == "gpu" or (settings.device == "auto" and gpus > 0)
        if wanted and gpus < job.processes_per_node:
            raise ValueError(
                f"hardware.gpus_per_node: {job.processes_per_node} asked for, and this machine has "
                f"{gpus}; ask for fewer, or set launch.device=cpu"
            )

    def submit(self, job: Job, settings: LaunchSettings) -> Job:
        assert isinstance(settings, LocalSettings)
        out = job.folder.scheduler_log_path.open("a") if settings.detach else None
        process = subprocess.Popen(
            self.command(job, settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # Ctrl-C is passed on by `wait`, once.
            start_new_session=True,
        )
        if out is not None:
            out.close()
        _started[str(process.pid)] = process
        return job.with_id(str(process.pid))

    def state(self, job: Job) -> str | None:
        # Between two attempts only the script is there; without it a node may live on for a while.
        return "RUNNING" if _script_lives(job) or _node_lives(job) else None

    def cancel(self, job: Job) -> None:
        assert job.id is not None
        with suppress(ProcessLookupError):
            os.kill(int(job.id), signal.SIGTERM)

    def script_log(self, job: Job) -> str:
        return job.folder.scheduler_log()


def wait(job: Job) -> int:
    """The status of a job that this process started, when it ends.

    Ctrl-C and signals are passed on, and the job gets the time to save.
    """
    script = _started[job.id or ""]

    def pass_on(number: int, _: object) -> None:
        script.send_signal(signal.SIGTERM)

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, pass_on) for number in signals}
    status = script.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return status


def _script_lives(job: Job) -> bool:
    """Whether the process that was started is still this script, and not a later one's number."""
    try:
        command = Path(f"/proc/{job.id}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(job.script_path) in command


def _node_lives(job: Job) -> bool:
    lock = alive_lock(job, 0)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def num_gpus() -> int:
    """GPUs of this machine that its jobs may see, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    known = Path("/proc/driver/nvidia/gpus")
    if known.is_dir():
        return len(list(known.iterdir()))
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
