"""`python -m launch.jobs.ray_nodes RUN`: places the nodes of a job on the hosts of a Ray cluster.

Each node is a task with the CPUs and GPUs of its processes, on a host of its own, and runs
`launch.jobs.node` there.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.cli import EXIT_USER_ERROR
from launch.jobs import attempts
from launch.jobs.attempts import EXIT_CRASHED, Failure, NodeEnd
from launch.jobs.job import Job
from launch.jobs.nodes import read_job

SECONDS_BETWEEN_LOOKS = 0.5


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    arguments = parser.parse_args(argv)
    job = read_job(arguments.run)
    return _play(job, {"CPU": arguments.cpus, "GPU": arguments.gpus})


def _play(job: Job, per_node: dict[str, int]) -> int:
    # An extra, which need not be installed where this is read.
    ray: Any = importlib.import_module("ray")
    placement_group = importlib.import_module("ray.util.placement_group").placement_group
    scheduling = importlib.import_module("ray.util.scheduling_strategies")

    ray.init(address="auto", log_to_driver=True)
    wanted = {name: float(count) for name, count in per_node.items() if count}
    group = placement_group([wanted] * job.nodes, strategy="STRICT_SPREAD")
    if not group.wait(int(job.rendezvous_timeout_s)):
        have = {name: ray.cluster_resources().get(name, 0) for name in wanted}
        _refuse(job, f"hardware.nodes: {job.nodes} hosts with {wanted} each; Ray has {have} in all")
        return EXIT_USER_ERROR
    task = ray.remote(num_cpus=per_node["CPU"], num_gpus=per_node["GPU"], max_retries=0)(run_node)
    placed = [
        task.options(
            scheduling_strategy=scheduling.PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=number
            )
        ).remote(job.python, job.run, number, os.environ["NEXTCHAPTER_ATTEMPT"], str(Path.cwd()))
        for number in range(job.nodes)
    ]

    def leave(number: int, frame: object) -> None:
        # Ray tells every process of the job, and so does its script: once is enough.
        signal.signal(number, signal.SIG_IGN)
        for node in placed:
            ray.cancel(node)

    signal.signal(signal.SIGTERM, leave)
    statuses = []
    for node in placed:
        try:
            statuses.append(ray.get(node))
        except ray.exceptions.RayError as error:
            print(f"a node was lost: {str(error).splitlines()[0]}", file=sys.stderr)
            statuses.append(EXIT_CRASHED)
    return max(statuses)


def run_node(python: str, run: str, number: int, attempt: str, work_dir: str) -> int:
    """One node, on whatever host this is called; asked to leave, it gets the time to save."""
    environment = {
        **os.environ,
        "NEXTCHAPTER_NODE": str(number),
        "NEXTCHAPTER_ATTEMPT": attempt,
    }
    command = [python, "-P", "-m", "launch.jobs.node", run]
    process = subprocess.Popen(command, env=environment, cwd=work_dir)
    try:
        while process.poll() is None:
            # Ray's interrupt is seen between two instructions, and never in the middle of a wait.
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return process.returncode
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        return process.wait()


def _refuse(job: Job, line: str) -> None:
    attempt = os.environ["NEXTCHAPTER_ATTEMPT"]
    job.folder.attempt_dir(attempt).mkdir(parents=True, exist_ok=True)
    told = Failure(-1, EXIT_USER_ERROR, line, "", time.time())
    attempts.end(job, attempt, NodeEnd(0, EXIT_USER_ERROR, (told,)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
