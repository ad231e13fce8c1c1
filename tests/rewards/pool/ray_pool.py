"""A real Ray cluster of two nodes on this machine scores, loses workers and gets new ones.

    python ray_pool.py FOLDER

writes what happened to FOLDER/seen.json. Everything listens on loopback alone.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TOKEN = secrets.token_hex(32)
# Before Ray is loaded: its cluster is to ask for the token, and to stay on loopback.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import pool_targets as targets  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from rewards.pool.cluster import join_cluster  # noqa: E402
from rewards.pool.messages import ORACLE  # noqa: E402
from rewards.pool.pool import WorkerPool  # noqa: E402
from rewards.pool.ray_workers import start_workers  # noqa: E402
from rewards.pool.scorer import PoolScorer  # noqa: E402
from rewards.pool.serving import Recipe  # noqa: E402
from rewards.types import Likelihood, ScoreRequest  # noqa: E402

LOOPBACK = {"node_ip_address": "127.0.0.1"}
SECONDS_TO_JOIN = 240


class Story:
    """One pool of waiting workers, and what they wrote down."""

    def __init__(self, ray: Any, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.log = folder / "scored.log"
        self.log.touch()
        recipe = Recipe("pool_targets:waiting", {"seconds": 0.15, "log": str(self.log)})
        workers, self.agreement = start_workers(ray, recipe, "story", 2, 1, 0)
        self.pool = WorkerPool(workers, calls_per_worker=2, patience_s=240)
        self.scorer = PoolScorer(self.pool)
        self.num_groups = 0

    def lines(self) -> list[tuple[str, ...]]:
        """Process, node and episode of all that was scored so far."""
        return [tuple(line.split()) for line in self.log.read_text().splitlines()]

    def score(self, num_groups: int, then: Callable[[], None] | None = None) -> dict[str, Any]:
        """Scores so many new groups; `then` happens when the first of them are done."""
        requests = [r for group in targets.groups_of(num_groups, self.num_groups, 6) for r in group]
        self.num_groups += num_groups
        before, answers = len(self.lines()), self.pool.num_answers
        started = time.monotonic()
        self.scorer.start(requests)
        if then is not None:
            while len(self.lines()) < before + 3:
                time.sleep(0.02)
            then()
        found = self.scorer.score(requests)
        took_s = time.monotonic() - started
        lines = self.lines()[before:]
        return {
            "groups_per_s": num_groups / took_s,
            "wrong": sum(f != targets.cost_of(r) for f, r in zip(found, requests, strict=True)),
            "answers": self.pool.num_answers - answers,
            "groups": num_groups,
            "scored": len(lines),
            "processes": sorted({line[0] for line in lines}),
            "nodes": sorted({line[1] for line in lines}),
        }

    def until_two_work(self) -> dict[str, Any]:
        """Batches until both workers took part in one."""
        started = time.monotonic()
        while len((seen := self.score(8))["processes"]) < 2:
            assert time.monotonic() - started < SECONDS_TO_JOIN, "no second worker came up"
        return seen

    def kill_worker(self) -> None:
        os.kill(int(self.lines()[-1][0]), signal.SIGKILL)

    def kill_node(self) -> None:
        doomed = self.lines()[-1][1]
        (node,) = [n for n in self.cluster.worker_nodes if n.node_id == doomed]
        self.cluster.remove_node(node, allow_graceful=False)


def story(ray: Any, cluster: Cluster, folder: Path) -> dict[str, Any]:
    told = Story(ray, cluster, folder)
    seen = {
        "begin": told.until_two_work(),
        "worker_killed": told.score(16, told.kill_worker),
        "again_two": told.until_two_work(),
        "two": told.score(16),
        "node_killed": told.score(16, told.kill_node),
        "one_left": told.score(16),
    }
    cluster.add_node(num_cpus=1, **LOOPBACK)
    seen["joined"] = told.until_two_work()
    seen["joined_two"] = told.score(16)
    told.pool.close()
    free(ray, "story", 2)
    return seen


def same_numbers(ray: Any) -> dict[str, Any]:
    """The pool's numbers beside those of one process, and those of the oracle."""
    workers, _ = start_workers(ray, Recipe("pool_targets:tiny_llama", {}), "tiny", 2, 1, 0)
    pool = WorkerPool(workers, patience_s=240)
    requests = [r for group in targets.groups_of(4) for r in group]
    served = targets.tiny_llama({})
    seen = {
        "pool": nlls(PoolScorer(pool).score(requests)),
        "pool_reversed": nlls(PoolScorer(pool).score(requests[::-1])[::-1]),
        "pool_oracle": nlls(PoolScorer(pool, ORACLE).score(requests)),
        "process": nlls(served.scorer.score(requests)),
        "process_oracle": nlls(served.oracle.score(requests)),
        "too_long": error_of(lambda: PoolScorer(pool).score(too_long())),
    }
    pool.close()
    free(ray, "tiny", 2)
    return seen


def refusals(ray: Any, address: str) -> dict[str, Any]:
    workers, agreement = start_workers(ray, Recipe("pool_targets:unable", {}), "unable", 1, 1, 0)
    pool = WorkerPool(workers, patience_s=30)
    requests = targets.groups_of(1)[0]
    seen = {
        "cannot_load": error_of(lambda: PoolScorer(pool).score(requests)),
        "cannot_load_at_start": error_of(lambda: agreement.about(30)),
    }
    pool.close()
    free(ray, "unable", 1)
    # More CPUs than any node has: nobody ever comes up.
    workers, agreement = start_workers(ray, Recipe("pool_targets:waiting", {}), "none", 1, 64, 0)
    pool = WorkerPool(workers, patience_s=2)
    seen["no_room"] = error_of(lambda: PoolScorer(pool).score(requests))
    seen["no_room_at_start"] = error_of(lambda: agreement.about(1))
    pool.close()
    free(ray, "none", 1)
    join = "from rewards.pool.cluster import join_cluster; join_cluster({!r}, 1, 0)"
    for name, variables, where in (
        ("wrong_token", {"RAY_AUTH_TOKEN": "0" * 64}, address),
        ("no_token", {"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"}, address),
        ("no_cluster", {}, "127.0.0.1:1"),
        ("no_address", {}, "somewhere"),
        ("open_cluster", {"RAY_AUTH_MODE": "disabled"}, "192.0.2.1:6379"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", join.format(where)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        seen[name] = done.stderr.strip().splitlines()[-1] if done.returncode else "joined"
    return seen


def free(ray: Any, name: str, count: int) -> None:
    """Makes room for the next pool."""
    for number in range(count):
        ray.kill(ray.get_actor(f"{name}-{number}", "nextchapter"))


def too_long() -> list[ScoreRequest]:
    return [ScoreRequest("book/long", (7,) * 2000, (), (8,))]


def nlls(found: Sequence[Likelihood]) -> list[list[float]]:
    return [list(likelihood.token_nll) for likelihood in found]


def error_of(work: Callable[[], Any]) -> str:
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(folder: Path) -> None:
    head = {"num_cpus": 0, "include_dashboard": False, **LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, **LOOPBACK)
    handler = signal.getsignal(signal.SIGTERM)
    ray = join_cluster(cluster.address, 0, 0)
    try:
        seen = {
            "keeps_sigterm": signal.getsignal(signal.SIGTERM) == handler,
            **same_numbers(ray),
            **refusals(ray, cluster.address),
            **story(ray, cluster, folder),
        }
        (folder / "seen.json").write_text(json.dumps(seen, indent=1))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
