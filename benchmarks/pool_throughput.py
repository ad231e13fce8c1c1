"""How much faster two workers of a scoring pool are than one, and what overlapping saves.

    python -m benchmarks.pool_throughput

starts a Ray cluster on this machine, on loopback, and writes
`benchmarks/results/pool_throughput.json`. A worker's scorer waits instead of computing, as a
processor waits for a GPU: what is measured is whether the pool keeps its workers busy, and it can
be measured on two cores, which two workers that compute would have to share with everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from rewards.pool.cluster import join_cluster
from rewards.pool.pool import WorkerPool
from rewards.pool.ray_workers import start_workers
from rewards.pool.scorer import PoolScorer
from rewards.pool.serving import Recipe, Served
from rewards.types import Likelihood, ScoreRequest
from train.bench.machine import describe_machine

HERE = Path(__file__).resolve()
RESULTS = HERE.with_name("results") / "pool_throughput.json"
# The lengths of the published set-up: context, plan, chapter, and eight attempts at an episode.
CONTEXT, PLAN, CHAPTER, ATTEMPTS = 7_000, 1_000, 2_500, 8
GROUPS, PARTS = 24, 6
SECONDS_PER_GROUP = 0.25
REPEATS = 3


class Waiting:
    """Takes its time over each group; one nat for every gold token."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        time.sleep(self.seconds)
        return [Likelihood(float(len(r.gold_ids)), (1.0,) * len(r.gold_ids)) for r in requests]


def waiting(settings: Mapping[str, Any]) -> Served:
    scorer = Waiting(settings["seconds"])
    return Served(scorer, scorer, {"key": "waiting"})


def group(number: int) -> list[ScoreRequest]:
    context = (number,) * CONTEXT
    return [
        ScoreRequest(f"book/{number}", context, (attempt,) * PLAN, (1,) * CHAPTER)
        for attempt in range(ATTEMPTS)
    ]


def all_at_once(scorer: PoolScorer, groups: Sequence[Sequence[ScoreRequest]]) -> float:
    """Seconds to score all groups that are there from the beginning."""
    started = time.perf_counter()
    scorer.score([request for each in groups for request in each])
    return time.perf_counter() - started


def step(
    scorer: PoolScorer,
    groups: Sequence[Sequence[ScoreRequest]],
    sampling_s: float,
    overlaps: bool,
) -> float:
    """Seconds of a step that samples in parts; each part is begun at once, or all at the end."""
    size = len(groups) // PARTS
    started = time.perf_counter()
    for part in range(PARTS):
        time.sleep(sampling_s / PARTS)
        if overlaps:
            scorer.start([r for each in groups[part * size : (part + 1) * size] for r in each])
    scorer.score([request for each in groups for request in each])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    ray = join_cluster(None, cpus=2, gpus=0)
    recipe = Recipe("benchmarks.pool_throughput:waiting", {"seconds": SECONDS_PER_GROUP})
    workers, _ = start_workers(ray, recipe, "bench", 2, 1, 0)
    for worker in workers:
        worker.wait_until_up()
    groups = [group(number) for number in range(GROUPS)]
    seconds: dict[int, list[float]] = {}
    for count in (1, 2):
        pool = WorkerPool(workers[:count])
        all_at_once(PoolScorer(pool), groups[:2])
        seconds[count] = [all_at_once(PoolScorer(pool), groups) for _ in range(REPEATS)]
        pool.close()
    pool = WorkerPool(workers)
    # As long as two workers take to score what is sampled.
    sampling_s = GROUPS * SECONDS_PER_GROUP / 2
    steps = {
        name: [step(PoolScorer(pool), groups, sampling_s, overlaps) for _ in range(REPEATS)]
        for name, overlaps in (("scored_afterwards_s", False), ("scored_meanwhile_s", True))
    }
    pool.close()
    written = {
        "command": "python -m benchmarks.pool_throughput",
        "machine": describe_machine(torch.device("cpu")),
        "groups": GROUPS,
        "requests_per_group": ATTEMPTS,
        "tokens": {"context": CONTEXT, "plan": PLAN, "chapter": CHAPTER},
        "seconds_per_group": SECONDS_PER_GROUP,
        "one_worker_s": rounded(seconds[1]),
        "two_workers_s": rounded(seconds[2]),
        "rate_of_two_over_one": round(median(seconds[1]) / median(seconds[2]), 3),
        "share_of_time_that_a_worker_waits_on_its_device": {
            str(count): round(GROUPS * SECONDS_PER_GROUP / count / median(took), 3)
            for count, took in seconds.items()
        },
        "step": {
            "sampling_s": sampling_s,
            "parts": PARTS,
            "scoring_on_two_workers_s": round(median(seconds[2]), 3),
            **{name: rounded(took) for name, took in steps.items()},
        },
    }
    options.output.write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written, indent=1))
    ray.shutdown()


def rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


if __name__ == "__main__":
    main()
