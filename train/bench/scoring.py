"""The benchmark of scoring from the model to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from train.bench.chunked import Chunked
from train.bench.contenders import Contender, OneAtATime, PaddedBatch
from train.bench.device import matmul_flops_per_s
from train.bench.floor import Floor, fastest_call, fastest_head_chunk
from train.bench.machine import describe_machine
from train.bench.measure import Agreement, Result, in_turns
from train.bench.memory import PeakMemory, measured, peak_memory
from train.bench.ours import OursCold, OursWarm
from train.bench.scales import CallShape, Scale
from train.bench.workload import Workload, draw_workload
from train.progress import ProgressDisplay

SEED = 0
# Enough of an episode for every contender to set itself up.
WARM_UP_ATTEMPTS = 3


@dataclass(frozen=True)
class MemoryGrowth:
    """What twice as many gold tokens add to the peak of our scorer."""

    shape: str
    gold_tokens: tuple[int, int]
    """Of one attempt, before and after."""
    peak_bytes: tuple[int | None, int | None]
    logits_bytes: tuple[int, int]
    """What fp32 logits of all gold positions would take."""


@dataclass(frozen=True)
class Report:
    machine: dict[str, object]
    scale: Scale
    matmul_flops_per_s: float
    floor_call: CallShape
    floor_head_chunk: int
    memory_method: str
    results: list[Result]
    largest_difference_nats: float
    memory_growth: MemoryGrowth


def run(scale: Scale, display: ProgressDisplay) -> Report:
    """Measures everything at this scale.

    Raises:
        ValueError: contenders do not agree on what the tokens cost.
    """
    machine = describe_machine(torch.device(scale.device))
    with display.stage(f"a model of {scale.name} shape with random weights"):
        model = scale.make_model()
    with display.stage("what the device can do"):
        rate = matmul_flops_per_s(scale.matmul_size, scale.dtype, model.device)
        call = fastest_call(model, scale.call_shapes)
        head_chunk = fastest_head_chunk(model, scale.head_chunks)
    ours = OursCold(model)
    contenders: list[Contender] = [
        OneAtATime(model),
        PaddedBatch(model, scale.rows_per_batch),
        Chunked(model, scale.rows_per_batch),
        ours,
        OursWarm(model),
        Floor(model, False, call, head_chunk),
        Floor(model, True, call, head_chunk),
    ]
    vocab_size = model.config.get_text_config().vocab_size
    workloads = [draw_workload(shape, vocab_size, SEED) for shape in scale.shapes]
    agreement, meter = Agreement(scale.tolerance_nats), peak_memory(model.device)
    with display.stage("warm-up", len(contenders)) as advance:
        warm_up = [workloads[0].reduced(WARM_UP_ATTEMPTS)]
        in_turns(contenders, warm_up, 1, agreement, meter, model.device, advance)
    total = len(contenders) * len(workloads) * scale.repeats
    with display.stage("scoring", total) as advance:
        results = in_turns(
            contenders, workloads, scale.repeats, agreement, meter, model.device, advance
        )
    with display.stage("memory with twice the gold tokens"):
        growth = _memory_growth(model, ours, workloads, results, meter)
    return Report(
        machine,
        scale,
        rate,
        call,
        head_chunk,
        meter.method,
        results,
        agreement.largest,
        growth,
    )


def _memory_growth(
    model: PreTrainedModel,
    ours: OursCold,
    workloads: Sequence[Workload],
    results: Sequence[Result],
    meter: PeakMemory,
) -> MemoryGrowth:
    """On the shape with the most attempts."""
    short = max(workloads, key=lambda w: w.shape.num_attempts)
    long = short.with_gold_doubled()
    (before,) = (r for r in results if r.shape == short.shape and r.contender == ours.name)
    num_gold = sum(len(request.gold_ids) for request in short.requests)
    logits_bytes = 4 * num_gold * model.config.get_text_config().vocab_size
    return MemoryGrowth(
        short.shape.name,
        (short.shape.gold_tokens, 2 * short.shape.gold_tokens),
        (before.peak_bytes, measured(meter, lambda: ours.score(long))),
        (logits_bytes, 2 * logits_bytes),
    )
