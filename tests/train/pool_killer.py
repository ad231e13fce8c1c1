"""A training whose scorers are killed under it, on a real Ray of two nodes on this machine.

    python pool_killer.py FOLDER SETTING ...

trains with `scorer=ray` into FOLDER/pooled. In the middle of a step a worker is killed, in the
middle of a later one the node of a worker; then a node joins. FOLDER/seen.json says what happened.
Everything listens on loopback alone.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before Ray is loaded: its cluster is to ask for the token, and to stay on loopback.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers have the priority of this test, and what starts them the normal one (`main`).
    "RAY_worker_niceness": str(os.nice(0)),
}

import psutil
from ray.cluster_utils import Cluster

from rewards.pool.cluster import NAMESPACE, join_cluster

NICENESS = os.nice(0)
LOOPBACK = {"node_ip_address": "127.0.0.1"}
SECONDS_TO_WAIT = 900
SECONDS_TO_BE_SURE = 5


class Training:
    """The run, as far as one sees from outside where it is."""

    def __init__(self, folder: Path, address: str, settings: list[str]) -> None:
        self.run = folder / "pooled"
        self.log = folder / "training.log"
        where = ("run_dir=pooled", "scorer=ray", "scorer.pool.workers=2")
        self.process = subprocess.Popen(
            [
                *("nice", "-n", str(NICENESS), sys.executable, "-m", "launch", "train"),
                *where,
                *settings,
                f"scorer.pool.address={address}",
            ],
            cwd=folder,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def steps(self) -> int:
        path = self.run / "metrics.jsonl"
        return path.read_text(encoding="utf-8").count('"reward"') if path.exists() else 0

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        give_up = time.monotonic() + SECONDS_TO_WAIT
        while not is_reached():
            assert time.monotonic() < give_up and self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def wait_until_it_waits(self) -> None:
        """Until its main thread sleeps for a while: it waits for what the frozen worker holds."""
        ours, since = psutil.Process(self.process.pid), time.monotonic()

        def waits() -> bool:
            nonlocal since
            # One that wants a busy machine's processor is running all the same.
            if ours.status() != psutil.STATUS_SLEEPING:
                since = time.monotonic()
            return time.monotonic() - since > SECONDS_TO_BE_SURE

        self.wait_until(waits)


def names(ray: Any) -> list[str]:
    """What the pool's workers are called."""
    return sorted(a["name"] for a in ray.util.list_named_actors(all_namespaces=True))


def workers(ray: Any) -> list[psutil.Process]:
    """The processes of the pool's workers, once they are up."""
    actors = [ray.get_actor(name, NAMESPACE) for name in names(ray)]
    told = [ray.get(a.hello.options(max_task_retries=-1).remote()) for a in actors]
    return [psutil.Process(json.loads(text)["pid"]) for text in told]


def play(ray: Any, cluster: Cluster, training: Training) -> dict[str, Any]:
    # Asked before training begins: to reach a worker takes longer than several steps.
    training.wait_until(lambda: len(names(ray)) == 2)
    first, second = workers(ray)
    training.wait_until(lambda: training.steps() >= 1)
    seen: dict[str, Any] = {}

    # Frozen, it takes what it is given and does not answer: it dies with groups in its hands.
    first.send_signal(signal.SIGSTOP)
    training.wait_until_it_waits()
    seen["worker_killed_after_step"] = before = training.steps()
    first.kill()
    training.wait_until(lambda: training.steps() > before)

    # The other one has all groups now, until the first has been started again elsewhere.
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    node = raylets[second.ppid()]
    second.send_signal(signal.SIGSTOP)
    training.wait_until_it_waits()
    seen["node_killed_after_step"] = before = training.steps()
    cluster.remove_node(node, allow_graceful=False)
    second.kill()
    training.wait_until(lambda: training.steps() > before)

    cluster.add_node(num_cpus=1, **LOOPBACK)
    seen["status"] = training.process.wait(timeout=SECONDS_TO_WAIT)
    seen["lost"] = training.log.read_text().count("its group goes to another")
    return seen


def main(folder: Path, settings: list[str]) -> None:
    if os.getuid() == 0:
        # A Ray that starves takes its own parts for dead.
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    head = {"num_cpus": 0, "include_dashboard": False, **LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, **LOOPBACK)
    ray = join_cluster(cluster.address, 0, 0)
    training = Training(folder, cluster.address, settings)
    try:
        seen = play(ray, cluster, training)
        (folder / "seen.json").write_text(json.dumps(seen, indent=1))
    finally:
        training.process.kill()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
