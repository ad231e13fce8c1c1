"""Step time and share of scoring for 8 to 1,024 GPUs: scored by all GPUs, or by a pool of some.

    python -m benchmarks.scale_simulation

plays one optimizer step at the published lengths, event by event, and writes
`benchmarks/results/scale_simulation.json`. Work is counted in floating point operations and bytes;
what a GPU makes of them is assumed and varied (`Machine`), as `docs/scale.md` explains. Measured
are how evenly ranks share the scoring and what the pool adds to a group (both in this folder).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.balance_simulation import Episode, published_episode
from rewards.likelihood.flops import ModelShape
from train.bench.machine import describe_machine
from train.bench.scales import CUDA

HERE = Path(__file__).resolve().with_name("results")
RESULTS = HERE / "scale_simulation.json"
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
# 64 prompts on 8 GPUs, as published, and on 32.
EPISODES_PER_GPU = (8, 2)
POOL_SHARES = (1 / 16, 1 / 8, 1 / 4)
ATTEMPTS, SEEDS = 8, (0, 1, 2)
# Qwen2.5-7B: keys and values of a token in bfloat16 (docs/memory.md), weights.
KV_BYTES, WEIGHT_BYTES = 57_344, 15.23e9
# Forward, backward (2), the forward again under activation checkpoints, and the reference's.
PASSES = 1 + 2 + 1 + 1


@dataclass(frozen=True)
class Machine:
    """What one GPU does; all of it is assumed, none measured."""

    peak_flops: float = 989e12
    """H100 SXM, bfloat16 without sparsity (its data sheet)."""
    bytes_per_s: float = 3.35e12
    """Of its memory (its data sheet)."""
    scoring_mfu: float = 0.40
    update_mfu: float = 0.35
    decoding_share: float = 0.50
    """Of the memory's bytes per second, while answers are sampled token by token."""
    scoring_overhead: float = 1.12
    """Time over that of the bare matrix products: measured on a CPU, 1.09 and 1.15 (scoring.md)."""
    pool_s_per_group: float = 0.02
    """What the pool adds to a group's scoring, from `pool_throughput.json` where it is there."""


@dataclass(frozen=True)
class Work:
    """Seconds of one episode on one GPU."""

    rollout: float
    scoring: float
    update: float


@dataclass(frozen=True)
class Step:
    """One optimizer step, mean over seeds, and how well the GPUs are used by it."""

    gpus: int
    episodes_per_gpu: int
    workers: int
    """0 where all GPUs train, and score together."""
    step_s: float
    scoring_exposed_share: float
    """Of the step: what it would be shorter by if scoring took no time."""
    pool_busy_share: float
    episodes_per_gpu_hour: float


def work_of(episode: Episode, shape: ModelShape, machine: Machine) -> Work:
    """An episode's answers sampled together, scored as one group, and learned from one by one."""
    answers = episode.plans[1:]
    prefill = shape.body_flops(episode.context) / (machine.peak_flops * machine.scoring_mfu)
    rate = machine.bytes_per_s * machine.decoding_share
    # Token by token until the longest is done; the weights, and the keys and values of all.
    keys = len(answers) * (episode.context + fmean(answers)) * KV_BYTES
    decoding = max(answers) * (WEIGHT_BYTES + keys) / rate
    cost = episode.cost(shape)
    # From the second epoch on, when the baseline, the first member, is known.
    scored = cost.prefix + sum(cost.members[1:])
    learned = PASSES * sum(
        shape.body_flops(episode.context + answer) + shape.head_flops(answer) for answer in answers
    )
    return Work(
        prefill + decoding,
        scored * machine.scoring_overhead / (machine.peak_flops * machine.scoring_mfu),
        learned / (machine.peak_flops * machine.update_mfu),
    )


def colocated(work: Sequence[Sequence[Work]], ratio: float) -> float:
    """Seconds of a step: each GPU samples an episode, all score together, each learns, and again.

    `ratio` is the busiest rank's load over the mean.
    """
    clock = [0.0] * len(work)
    for part in zip(*work, strict=True):
        together = max(t + episode.rollout for t, episode in zip(clock, part, strict=True))
        together += ratio * fmean(episode.scoring for episode in part)
        clock = [together + episode.update for episode in part]
    return max(clock)


def pooled(work: Sequence[Sequence[Work]], workers: int, extra_s: float) -> tuple[float, float]:
    """Seconds of a step, and for which share of it a worker is busy.

    A trainer's groups go to the workers in turn, from one of its own on, and a worker takes them as
    they come. Nobody learns before all are scored: TRL puts all rewards together.
    """
    arrivals = []
    for rank, episodes in enumerate(work):
        now = 0.0
        for number, episode in enumerate(episodes):
            now += episode.rollout
            arrivals.append((now, (rank + number) % workers, episode.scoring + extra_s))
    free = [0.0] * workers
    for ready, worker, seconds in sorted(arrivals):
        free[worker] = max(free[worker], ready) + seconds
    scored = max(free)
    step = scored + max(sum(episode.update for episode in episodes) for episodes in work)
    return step, sum(seconds for _, _, seconds in arrivals) / (workers * step)


def simulate(
    shape: ModelShape, gpus: int, per_gpu: int, workers: int, ratio: float, machine: Machine
) -> Step:
    seen = []
    for seed in SEEDS:
        rng = random.Random(f"{seed}/{gpus}/{per_gpu}/{workers}")
        work = [
            [work_of(published_episode(rng, ATTEMPTS), shape, machine) for _ in range(per_gpu)]
            for _ in range(gpus - workers)
        ]
        unscored = [[replace(episode, scoring=0.0) for episode in mine] for mine in work]
        if workers:
            step, busy = pooled(work, workers, machine.pool_s_per_group)
            without, _ = pooled(unscored, workers, 0.0)
        else:
            step, busy, without = colocated(work, ratio), 0.0, colocated(unscored, ratio)
        seen.append((step, 1 - without / step, busy))
    step, exposed, busy = (fmean(values) for values in zip(*seen, strict=True))
    rate = (gpus - workers) * per_gpu / gpus * 3600 / step
    return Step(
        gpus, per_gpu, workers, round(step, 1), round(exposed, 4), round(busy, 4), round(rate, 2)
    )


def measured_ratios() -> dict[int, float]:
    """The busiest rank's load over the ideal, one episode a rank, from the planner itself."""
    found = json.loads((HERE / "balance_simulation.json").read_text())["results"]
    return {
        r["ranks"]: r["makespan_ratio"]
        for r in found
        if r["prompts"] == r["ranks"] and r["attempts"] == ATTEMPTS
    }


def measured_pool_s() -> float:
    """Seconds that the pool adds to a group of one worker."""
    found = json.loads((HERE / "pool_throughput.json").read_text())
    took = sorted(found["one_worker_s"])[len(found["one_worker_s"]) // 2]
    return round(took / found["groups"] - found["seconds_per_group"], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    shape = ModelShape.of(replace(CUDA, device="meta").make_model())
    machine, ratios = Machine(pool_s_per_group=measured_pool_s()), measured_ratios()

    def both(gpus: int, per_gpu: int, machine: Machine) -> list[dict[str, Any]]:
        counts = sorted({0, *(max(1, round(gpus * share)) for share in POOL_SHARES)})
        return [
            asdict(simulate(shape, gpus, per_gpu, workers, ratios[gpus], machine))
            for workers in counts
        ]

    rng = random.Random(0)
    episodes = [published_episode(rng, ATTEMPTS) for _ in range(200)]
    typical = [work_of(episode, shape, machine) for episode in episodes]
    varied = {
        f"{name}={value}": both(64, 8, replace(machine, **{name: value}))
        for name, values in (
            ("scoring_mfu", (0.2, 0.6)),
            ("update_mfu", (0.2, 0.5)),
            ("decoding_share", (0.25, 0.8)),
        )
        for value in values
    }
    written = {
        "command": "python -m benchmarks.scale_simulation",
        "machine": describe_machine(torch.device("cpu")),
        "model": {"name": "Qwen2.5-7B", **asdict(shape)},
        "assumed": asdict(machine),
        "seconds_per_episode": {
            name: round(fmean(getattr(work, name) for work in typical), 2)
            for name in ("rollout", "scoring", "update")
        },
        "results": [
            row for n in options.gpus for k in EPISODES_PER_GPU for row in both(n, k, machine)
        ],
        "sensitivity_64_gpus_8_episodes": varied,
    }
    options.output.write_text(json.dumps(written, indent=1) + "\n")
    print(written["seconds_per_episode"], machine)
    for row in written["results"]:
        print(*row.values())
    for name, rows in varied.items():
        print(name, *(list(row.values())[2:] for row in rows))


if __name__ == "__main__":
    main()
