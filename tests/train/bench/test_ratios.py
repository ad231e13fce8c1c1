"""Ratios from times that a pencil can divide."""

from __future__ import annotations

import pytest

from train.bench.measure import Result
from train.bench.ratios import Target, best_padded, ratios
from train.bench.workload import Shape

SHAPE = Shape("g1", 1, 1, 7, 1, 2)
SECONDS_AND_FLOPS = {
    "one_at_a_time": ([6.0, 8.0, 6.0], 40),
    "padded_batch": ([9.0, 1.0, 9.0], 30),
    "chunked": ([4.0, 8.0, 5.0], 30),
    "ours_cold": ([2.0, 2.0, 2.0], 10),
    "ours_warm": ([1.0, 1.0, 3.0], 8),
    "floor": ([2.0, 1.0, 1.0], 9),
    "floor_warm": ([1.0, 0.5, 1.0], 7),
}


@pytest.fixture
def results() -> list[Result]:
    return [
        Result(SHAPE, name, flops, seconds) for name, (seconds, flops) in SECONDS_AND_FLOPS.items()
    ]


def test_ratios_are_those_of_the_same_repeat(results: list[Result]) -> None:
    found = {ratio.name: ratio for ratio in ratios(results, matmul_flops_per_s=10)}
    assert found["one_at_a_time/ours_cold"].values == (3, 4, 3)
    assert found["best_padded/ours_cold"].values == (2, 4, 2.5)
    assert found["best_padded/ours_cold"].median == 2.5
    assert found["ours_cold/floor"].values == (1, 2, 2)
    assert found["ours_warm/floor_warm"].values == (1, 2, 3)


def test_the_better_padded_way_is_the_one_with_the_lower_median(results: list[Result]) -> None:
    assert best_padded(results).contender == "chunked"


def test_a_speed_up_is_also_told_as_a_share_of_the_operations_saved(results: list[Result]) -> None:
    found = {ratio.name: ratio for ratio in ratios(results, matmul_flops_per_s=10)}
    # Four times the operations take three times as long.
    assert found["one_at_a_time/ours_cold share_of_flops_ratio"].median == 0.75
    # 10 operations in 2 s are half of 10 operations a second.
    assert found["ours_cold matmul_share"].median == 0.5


def test_a_target_is_met_up_to_its_limit() -> None:
    assert Target(at_least=2.8).is_met(2.8)
    assert not Target(at_least=2.8).is_met(2.7)
    assert Target(at_most=1.25).is_met(1.25)
    assert not Target(at_most=1.25).is_met(1.3)
