"""How evenly scoring spreads over 8 to 1,024 ranks, and what the exchange costs, without a GPU.

    python -m benchmarks.balance_simulation

runs the very planner that `rewards.ranks.distributed` runs, on request lengths as published for
VR-CLI (arXiv 2503.22828), and writes `benchmarks/results/balance_simulation.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from rewards.likelihood.flops import GroupCost, ModelShape, group_flops
from rewards.ranks.balance import assign, ideal_flops, rank_flops
from rewards.ranks.distributed import ROW_INTS, Job, Row, plan_jobs
from rewards.ranks.packing import packed_bytes
from train.bench.machine import describe_machine
from train.bench.scales import CUDA

RESULTS = Path(__file__).with_name("results") / "balance_simulation.json"
RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)
ATTEMPTS = (8, 16)
PUBLISHED_PROMPTS = 64
PROMPTS_PER_RANK = (1, 2, 4, 8)
SEEDS = (0, 1, 2)
EPISODE_NAME_BYTES = 20
# The place of the empty plan among an episode's.
BASELINE = 0


@dataclass(frozen=True)
class Episode:
    """Token counts of one prompt's requests; the first plan is the empty one of the baseline."""

    context: int
    plans: tuple[int, ...]
    chapter: int

    def cost(self, shape: ModelShape) -> GroupCost:
        suffixes = [plan + self.chapter for plan in self.plans]
        return group_flops(self.context, suffixes, [self.chapter] * len(suffixes), shape)


@dataclass(frozen=True)
class Measured:
    """One setting, over all seeds. Ratios are to the ideal: all work spread like a liquid."""

    ranks: int
    prompts: int
    attempts: int
    makespan_ratio: float
    """From the second epoch on, when the baselines are known."""
    makespan_ratio_worst: float
    """Of the seeds; the one above is their mean."""
    first_epoch_ratio: float
    """With the baselines, which go where the attempts go."""
    whole_groups_ratio: float
    """Without ever splitting a group."""
    as_they_come_ratio: float
    """Every rank scores what it sampled, sharing prefixes where it can."""
    split_groups_share: float
    """Share of groups that are scored on more than one rank."""
    planning_s: float
    """CPU time that every rank takes to make the plan."""
    rows_bytes_per_rank: int
    """Digests and lengths of all requests, which every rank receives."""
    requests_bytes_busiest_rank: int
    """Token ids sent by the rank that sends most."""
    answers_bytes_busiest_rank: int
    """Likelihoods sent by the rank that sends most."""
    exchange_bytes_total: int
    """All of it, over all ranks."""


def published_episode(rng: random.Random, attempts: int) -> Episode:
    """Published are means of about 7k, 1k and 2.5k and limits of 12k and 2,048; spreads are ours.

    Chapter lengths of novels are near log-normal; a spread of 0.5 puts 95 % within 0.8k and 5.9k.
    """
    context = min(12_000, max(2_000, round(rng.gauss(7_000, 2_200))))
    chapter = round(rng.lognormvariate(7.70, 0.5))
    plans = [min(2_048, round(rng.lognormvariate(6.85, 0.4))) for _ in range(attempts)]
    return Episode(context, (0, *plans), chapter)


def held_rows(episodes: Sequence[Episode], num_ranks: int, attempts: int) -> list[list[Row]]:
    """The rows of each rank's requests: attempts are dealt in order, equally many to each rank.

    Each rank also asks for the baseline of every episode that it holds an attempt of.
    """
    total = len(episodes) * attempts
    rows: list[list[Row]] = []
    for rank in range(num_ranks):
        mine: dict[Row, None] = {}
        for place in range(rank * total // num_ranks, (rank + 1) * total // num_ranks):
            index, attempt = divmod(place, attempts)
            mine |= dict.fromkeys(row(episodes, index, a) for a in (BASELINE, attempt + 1))
        rows.append(list(mine))
    return rows


def row(episodes: Sequence[Episode], index: int, attempt: int) -> Row:
    """What `rewards.ranks.distributed.request_row` would give, with numbers in place of digests."""
    episode = episodes[index]
    suffix = episode.plans[attempt] + episode.chapter
    is_baseline = int(attempt == BASELINE)
    return index, 0, index, attempt, episode.context, suffix, episode.chapter, is_baseline


def bytes_moved(rows: Sequence[Sequence[Row]], jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    """Bytes of requests and of answers that each rank sends to other ranks."""
    parcels: dict[tuple[int, int], list[Row]] = defaultdict(list)
    answers = [0] * len(rows)
    for job in jobs:
        parcels[job.sender, job.replica].append(rows[job.sender][job.holders[job.sender]])
        others = [holder for holder in job.holders if holder != job.replica]
        answers[job.replica] += len(others) * 8 * (1 + job.num_gold)
    requests = [0] * len(rows)
    for (sender, receiver), sent in parcels.items():
        if sender != receiver:
            episodes = {r[0]: r for r in sent}.values()
            shared = [n for e in episodes for n in (EPISODE_NAME_BYTES, e[4], e[6])]
            requests[sender] += packed_bytes(len(sent), [*shared, *(r[5] - r[6] for r in sent)])
    return requests, answers


def as_they_come(costs: Sequence[GroupCost], rows: Sequence[Sequence[Row]]) -> float:
    """The busiest rank's operations where no request changes its rank."""
    return max(
        sum(costs[index].prefix for index in {r[0] for r in mine})
        + sum(costs[r[0]].members[r[3]] for r in mine)
        for mine in rows
    )


def held_members(
    rows: Sequence[Sequence[Row]], jobs: Sequence[Job], num_ranks: int
) -> list[dict[int, set[int]]]:
    """What each rank scores: by episode, the attempts."""
    members: list[dict[int, set[int]]] = [defaultdict(set) for _ in range(num_ranks)]
    for job in jobs:
        index, _, _, attempt, *_ = rows[job.sender][job.holders[job.sender]]
        members[job.replica][index].add(attempt)
    return members


def measure(shape: ModelShape, num_ranks: int, num_prompts: int, attempts: int) -> Measured:
    seen = defaultdict(list)
    for seed in SEEDS:
        rng = random.Random(f"{seed}/{num_ranks}/{num_prompts}/{attempts}")
        episodes = [published_episode(rng, attempts) for _ in range(num_prompts)]
        rows = held_rows(episodes, num_ranks, attempts)
        started = time.process_time()
        jobs = plan_jobs(rows, num_ranks, shape)
        seen["planning"].append(time.process_time() - started)
        requests, answers = bytes_moved(rows, jobs)
        seen["requests"].append(max(requests))
        seen["answers"].append(max(answers))
        rows_bytes = num_ranks * max(map(len, rows)) * ROW_INTS * 8
        # Besides: counts, two tables of sizes, and the headers of parcels that hold nothing.
        fixed = num_ranks * num_ranks * (3 * 8 + 8 + 1)
        seen["total"].append(num_ranks * rows_bytes + sum(requests) + sum(answers) + fixed)
        seen["rows"].append(rows_bytes)
        costs = [episode.cost(shape) for episode in episodes]
        ideal = ideal_flops(costs, num_ranks)
        members = held_members(rows, jobs, num_ranks)
        seen["first"].append(max(rank_flops(costs, mine) for mine in members) / ideal)
        attempts_only = [{i: kept for i in m if (kept := m[i] - {BASELINE})} for m in members]
        later = ideal_flops([GroupCost(c.prefix, c.members[1:]) for c in costs], num_ranks)
        seen["makespan"].append(max(rank_flops(costs, mine) for mine in attempts_only) / later)
        pieces = Counter(index for mine in members for index in mine)
        seen["split"].append(sum(n > 1 for n in pieces.values()) / num_prompts)
        totals = [cost.total for cost in costs]
        whole = max(sum(totals[i] for i in mine) for mine in assign(totals, num_ranks))
        seen["whole"].append(whole / ideal)
        seen["unmoved"].append(as_they_come(costs, rows) / ideal)
    return Measured(
        num_ranks,
        num_prompts,
        attempts,
        round(statistics.mean(seen["makespan"]), 4),
        round(max(seen["makespan"]), 4),
        round(statistics.mean(seen["first"]), 4),
        round(statistics.mean(seen["whole"]), 4),
        round(statistics.mean(seen["unmoved"]), 4),
        round(statistics.mean(seen["split"]), 4),
        round(statistics.mean(seen["planning"]), 4),
        round(statistics.mean(seen["rows"])),
        round(statistics.mean(seen["requests"])),
        round(statistics.mean(seen["answers"])),
        round(statistics.mean(seen["total"])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    shape = ModelShape.of(replace(CUDA, device="meta").make_model())
    results = [
        measure(shape, num_ranks, num_prompts, attempts)
        for num_ranks in options.ranks
        for attempts in ATTEMPTS
        for num_prompts in sorted({PUBLISHED_PROMPTS, *(k * num_ranks for k in PROMPTS_PER_RANK)})
    ]
    written = {
        "command": "python -m benchmarks.balance_simulation",
        "machine": describe_machine(torch.device("cpu")),
        "model": {"name": "Qwen2.5-7B", **asdict(shape)},
        "seeds": len(SEEDS),
        "results": [asdict(result) for result in results],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(written, indent=1) + "\n")
    for result in results:
        print(
            f"{result.ranks:5} ranks {result.prompts:5} prompts x {result.attempts:2}: "
            f"makespan {result.makespan_ratio:.3f} x ideal (with baselines "
            f"{result.first_epoch_ratio:.3f}, whole groups "
            f"{result.whole_groups_ratio:.3f}, unmoved {result.as_they_come_ratio:.3f}), "
            f"{100 * result.split_groups_share:3.0f} % split, plan {result.planning_s:.3f} s, "
            f"exchange {result.exchange_bytes_total / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
