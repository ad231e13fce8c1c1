"""A real Ray of two nodes on this machine: a dashboard that takes jobs, on loopback, with a token.

    python ray_cluster.py FILE

writes the dashboard's port into FILE once it answers, and ends the cluster when its input closes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurm_cluster import free_ports, normal_priority

LOOPBACK = "127.0.0.1"
SECONDS_TO_START = 600
ATTEMPTS = 4


@dataclass(frozen=True)
class RayJobs:
    """A running cluster; `environment` is what a user's commands need to reach it."""

    address: str
    environment: Mapping[str, str]


@contextmanager
def ray_cluster(folder: Path, repository: Path) -> Iterator[RayJobs]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Jobs have the priority of these tests, and what starts them has the normal one.
        "RAY_worker_niceness": str(os.nice(0)),
        # Its dashboard is many processes, which a busy machine starts slowly.
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(SECONDS_TO_START),
        # A job that is stopped gets the time to save.
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
    }
    ready, log = folder / "dashboard", folder / "cluster.log"
    process = _start(ready, log, environment)
    try:
        yield RayJobs(f"http://{LOOPBACK}:{ready.read_text()}", environment)
    finally:
        _end(process)


def _start(ready: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Ray gives its parts half a minute, which a busy machine does not always have."""
    for _ in range(ATTEMPTS):
        with log.open("w") as file:
            process = subprocess.Popen(
                [*normal_priority(), sys.executable, __file__, str(ready)],
                env=environment,
                cwd=log.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        give_up = time.monotonic() + SECONDS_TO_START
        while process.poll() is None and time.monotonic() < give_up:
            if ready.exists():
                return process
            time.sleep(0.2)
        _end(process)
    raise AssertionError(log.read_text()[-3000:])


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=60)


def wait_until_jobs_run(address: str) -> None:
    """A dashboard has a port before it answers, and answers before a node takes jobs."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    give_up = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < give_up:
        try:
            client = JobSubmissionClient(address)
            job = client.submit_job(entrypoint="true")
            while not (status := client.get_job_status(job)).is_terminal():
                time.sleep(0.2)
            if status == JobStatus.SUCCEEDED:
                return
        except (ConnectionError, RuntimeError):
            time.sleep(0.5)
    raise TimeoutError(f"{address}: no job has run within {SECONDS_TO_START} s")


def serve(ready: Path) -> None:
    from ray.cluster_utils import Cluster

    # Ray gives the parts of a node 15 s, so the many of a dashboard come afterwards.
    head = {
        "num_cpus": 1,
        "include_dashboard": False,
        "dashboard_host": LOOPBACK,
        "dashboard_port": free_ports(1)[0],
        "node_ip_address": LOOPBACK,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.head_node
        assert node is not None
        node.kill_dashboard()
        node.start_api_server(include_dashboard=True, raise_on_failure=True)
        cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK)
        wait_until_jobs_run(f"http://{node.webui_url}")
        temporary = ready.with_suffix(".new")
        temporary.write_text(str(node.webui_url).rpartition(":")[2])
        temporary.rename(ready)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
