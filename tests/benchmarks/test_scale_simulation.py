"""The step that the simulation plays, on numbers from a pencil, and the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scale_simulation import Work, colocated, pooled


def test_all_meet_to_score_each_part_and_wait_for_the_longest() -> None:
    # Parts: 5 s for the longest answers, 1.5 x the mean of 2 s to score, then 4 s of learning; the
    # second part begins when the first is learned.
    part = [Work(3.0, 2.0, 4.0), Work(5.0, 2.0, 4.0)]
    assert colocated([[one, one] for one in part], ratio=1.5) == pytest.approx(2 * (5 + 3 + 4))


def test_a_pool_scores_what_is_there_while_the_rest_is_sampled() -> None:
    # One trainer, two parts: sampled at 5 and 10 s; scored at 7 and 12; learned at 20.
    step, busy = pooled([[Work(5.0, 2.0, 4.0)] * 2], workers=1, extra_s=0.0)
    assert step == pytest.approx(20.0)
    assert busy == pytest.approx(4.0 / 20.0)


def test_groups_of_trainers_that_begin_with_different_workers_do_not_queue() -> None:
    work = [[Work(5.0, 2.0, 4.0)] for _ in range(2)]
    assert pooled(work, workers=2, extra_s=0.5)[0] == pytest.approx(5 + 2.5 + 4)
    assert pooled(work, workers=1, extra_s=0.5)[0] == pytest.approx(5 + 2 * 2.5 + 4)


def test_committed_results_reach_from_8_to_1024_gpus(repository: Path) -> None:
    written = json.loads((repository / "benchmarks/results/scale_simulation.json").read_text())
    assert {r["gpus"] for r in written["results"]} == {2**n for n in range(3, 11)}
    alone = [r for r in written["results"] if not r["workers"]]
    assert all(0.03 < r["scoring_exposed_share"] < 0.06 for r in alone)


def test_two_workers_of_the_pool_were_1_8_times_as_fast_as_one(repository: Path) -> None:
    written = json.loads((repository / "benchmarks/results/pool_throughput.json").read_text())
    assert written["rate_of_two_over_one"] >= 1.8
    meanwhile, afterwards = (
        max(written["step"][name]) for name in ("scored_meanwhile_s", "scored_afterwards_s")
    )
    assert meanwhile < 0.7 * afterwards
