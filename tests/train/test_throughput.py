"""Where the time of a step goes, and what is made of it; numbers from a pencil."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from train.throughput import Clock, Throughput, rates


class Slow:
    """A scorer that says how long it has waited for others."""

    seconds_waited = 0.0

    def score(self) -> None:
        time.sleep(0.02)
        self.seconds_waited += 0.015


def played(clock: Clock, scorer: Slow) -> None:
    """A step: sampling, scoring, learning, each of them for a while."""
    clock.begin()
    time.sleep(0.03)
    with clock.scoring(scorer):
        scorer.score()
    time.sleep(0.04)


def test_what_ends_in_scoring_was_sampling_and_the_rest_learning() -> None:
    clock, scorer = Clock(), Slow()
    time.sleep(0.02)
    played(clock, scorer)
    clock.learned()
    spent = clock.take()
    assert spent["rollout"] >= 0.03 and spent["update"] >= 0.04
    assert spent["waiting"] == pytest.approx(0.015)
    assert 0.004 <= spent["scoring"] < spent["rollout"]
    assert spent["outside"] >= 0.02, "before the step began"
    assert set(clock.take().values()) == {0.0}


def test_a_step_logs_its_parts_memory_and_cost_and_no_mfu_where_the_peak_is_unknown() -> None:
    clock = Clock()
    throughput = Throughput(2, None, price_per_gpu_hour=3600.0, clock=clock)
    state: Any = SimpleNamespace(global_step=1)
    throughput.on_train_begin(None, state, None, model=nn.Linear(10, 10, bias=False))
    played(clock, Slow())
    throughput.on_step_end(None, state, None)
    found = throughput.take({"num_tokens": 500.0})
    parts = [found[f"time/{name}_s"] for name in ("rollout", "scoring", "update", "waiting")]
    assert found["time/step_s"] == pytest.approx(sum(parts))
    # Two GPUs at one unit a second.
    assert found["cost/step"] == pytest.approx(2 * found["time/step_s"])
    assert found["memory/rank_0_gb"] > 0.01
    assert "throughput/mfu" not in found
    assert throughput.take({"num_tokens": 600.0}) == {}


def test_mfu_is_eight_operations_a_weight_and_token_over_the_peak() -> None:
    # 1,000 weights, 500 tokens in 2 s: 8 x 1,000 x 500 / 2 = 2e6 a second, of 4 x 1e6 at best.
    found = rates(500, 2.0, 1_000, num_gpus=4, peak_tflops=1e-6)
    assert found["throughput/tokens_per_s"] == 250
    assert found["throughput/mfu"] == pytest.approx(0.5)
