"""Peaks are what the kernel counted, and ours does not hold the vocabulary for every token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from train.bench.contenders import PaddedBatch
from train.bench.memory import NoPeak, measured, peak_memory
from train.bench.ours import OursCold
from train.bench.scales import Scale
from train.bench.workload import Shape, draw_workload

METER = peak_memory(torch.device("cpu"))
MIB = 2**20

pytestmark = pytest.mark.skipif(
    isinstance(METER, NoPeak), reason="the system does not tell the largest resident set"
)


def test_a_peak_is_told_though_the_memory_was_given_back() -> None:
    def work() -> None:
        torch.ones(100 * MIB // 4)

    for _ in range(2):
        peak = measured(METER, work)
        assert peak is not None
        assert 99 * MIB < peak < 110 * MIB


def test_our_peak_does_not_grow_by_the_vocabulary_for_every_gold_token(tiny: Scale) -> None:
    vocab_size = 50_000
    model = replace(tiny, architecture={**tiny.architecture, "vocab_size": vocab_size}).make_model()
    short = draw_workload(Shape("g8", 1, 8, 70, 8, 64), vocab_size, seed=0)
    ours, padded = OursCold(model), PaddedBatch(model, 8)
    grown = {}
    for contender in (ours, padded):
        contender.score(short)
        peaks = [
            measured(METER, lambda w=w, c=contender: c.score(w))
            for w in (short, short.with_gold_doubled())
        ]
        assert peaks[0] is not None
        assert peaks[1] is not None
        grown[contender.name] = peaks[1] - peaks[0]
    # fp32 logits of the 8 × 64 positions that are added.
    added_logits = 8 * 64 * vocab_size * 4
    assert grown["ours_cold"] < 0.1 * added_logits
    assert grown["padded_batch"] > 0.9 * added_logits
