"""What is scored: lengths with spread around the means, one prefix for each episode."""

from __future__ import annotations

import random

from train.bench.scales import CPU, CUDA
from train.bench.workload import Shape, Workload, draw_workload, spread_lengths


def test_lengths_lie_evenly_a_quarter_around_their_mean() -> None:
    lengths = spread_lengths(100, 5, random.Random(0))
    assert sorted(lengths) == [75, 88, 100, 112, 125]


def test_a_length_alone_is_the_mean() -> None:
    assert spread_lengths(448, 1, random.Random(0)) == [448]


def test_requests_of_an_episode_share_prefix_and_chapter_and_differ_in_the_plan(
    workload: Workload,
) -> None:
    for group in workload.groups:
        together = (*group.attempts, group.baseline)
        assert len({(r.prefix_ids, r.gold_ids) for r in together}) == 1
        assert len({r.guidance_ids for r in together}) == 5
        assert group.baseline.guidance_ids == ()
    assert len({group.prefix_ids for group in workload.groups}) == 2


def test_the_parts_have_their_mean_lengths(workload: Workload) -> None:
    assert sum(len(g.prefix_ids) for g in workload.groups) == 2 * 70
    assert sum(len(g.baseline.gold_ids) for g in workload.groups) == 2 * 20
    assert sum(len(r.guidance_ids) for r in workload.attempts) == 8 * 8


def test_a_seed_draws_the_same_tokens_again() -> None:
    shape = Shape("g2", 1, 2, 10, 4, 6)
    assert draw_workload(shape, 300, 1) == draw_workload(shape, 300, 1)
    assert draw_workload(shape, 300, 1) != draw_workload(shape, 300, 2)


def test_lengths_are_in_the_published_ratio() -> None:
    for shape in (*CPU.shapes, *CUDA.shapes):
        assert shape.prefix_tokens == 7 * shape.guidance_tokens
        assert shape.gold_tokens == 2.5 * shape.guidance_tokens
