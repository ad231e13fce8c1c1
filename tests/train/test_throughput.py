"""What is made of a step's time; numbers from a pencil."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from train.step_times import StepTimes
from train.throughput import Throughput, rates


def test_a_step_logs_memory_and_cost_and_no_mfu_where_the_peak_is_unknown() -> None:
    throughput = Throughput(2, None, price_per_gpu_hour=3600.0)
    state: Any = SimpleNamespace(global_step=1)
    throughput.on_train_begin(None, state, None, model=nn.Linear(10, 10, bias=False))
    throughput.on_step_end(None, state, None)
    found = throughput.metrics({"num_tokens": 500.0, "step_time": 4.0})
    # Two GPUs at one unit a second.
    assert found["cost/step"] == 8.0
    assert found["memory/rank_0_gb"] > 0.01
    # How many tokens there were before is known from the second step on.
    assert set(found) == {"cost/step", "memory/rank_0_gb"}
    found = throughput.metrics({"num_tokens": 900.0, "step_time": 4.0})
    assert found["throughput/tokens_per_s"] == 100.0
    assert "throughput/mfu" not in found


def test_a_rollout_counts_for_all_steps_that_learn_from_it() -> None:
    throughput = Throughput(1, steps_per_rollout=2)
    tokens_and_seconds = [(100, 9.0), (100, 1.0), (300, 7.0), (300, 1.0), (400, 4.0)]
    found = [
        throughput.metrics({"num_tokens": float(tokens), "step_time": seconds}).get(
            "throughput/tokens_per_s"
        )
        for tokens, seconds in tokens_and_seconds
    ]
    # 200 tokens in 1 + 7 s and in 7 + 1 s, 100 in 1 + 4 s.
    assert found == [None, None, 25.0, 25.0, 20.0]


def test_mfu_is_eight_operations_a_weight_and_token_over_the_peak() -> None:
    # 1,000 weights, 500 tokens in 2 s: 8 x 1,000 x 500 / 2 = 2e6 a second, of 4 x 1e6 at best.
    found = rates(500, 2.0, 1_000, num_gpus=4, peak_tflops=1e-6)
    assert found["throughput/tokens_per_s"] == 250
    assert found["throughput/mfu"] == pytest.approx(0.5)


class Pooled:
    """A reward whose scorer waits for others for 3 s of the 5 s that a call takes."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.scorer = SimpleNamespace(seconds_waited=10.0)

    def __call__(self, rollouts: Any) -> list[Any]:
        self.scorer.seconds_waited += 3.0
        self.seconds[0] += 5.0
        return []


def test_waiting_for_a_pool_is_not_scoring() -> None:
    seconds = [100.0]
    times = StepTimes(now=lambda: seconds[0])
    times.begin()
    seconds[0] += 7.0
    times.score(Pooled(seconds), [])
    seconds[0] += 2.0
    times.end()
    assert times.metrics == {
        "time/rollout": 7.0,
        "time/waiting": 3.0,
        "time/scoring": 2.0,
        "time/update": 2.0,
        "time/outside": 0.0,
    }
