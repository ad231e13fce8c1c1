"""Operations that are counted are those that are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from rewards.likelihood.flops import ModelShape
from train.bench.chunked import Chunked
from train.bench.contenders import Contender, OneAtATime, PaddedBatch
from train.bench.floor import Floor
from train.bench.ours import OursCold, OursWarm
from train.bench.scales import CPU, CUDA, CallShape
from train.bench.workload import Workload

CONTENDERS: Sequence[Callable[[PreTrainedModel], Contender]] = (
    OneAtATime,
    lambda model: PaddedBatch(model, 3),
    lambda model: Chunked(model, 3),
    OursCold,
    OursWarm,
    lambda model: Floor(model, False, CallShape(2, 32), 16),
    lambda model: Floor(model, True, CallShape(2, 32), 16),
)


def attention_flops(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    dropout: float = 0.0,
    is_causal: bool = False,
    attn_mask: Sequence[int] | None = None,
    **kwargs: Any,
) -> int:
    """For torch's counter, which does not know the CPU's kernel nor that masked pairs are none."""
    num_rows, heads, num_queries, head_size = query
    num_keys = key[2]
    is_masked = is_causal or attn_mask is not None
    pairs = num_queries * (num_queries + 1) // 2 if is_masked else num_queries * num_keys
    return 4 * num_rows * heads * head_size * pairs


@pytest.mark.parametrize("make", CONTENDERS)
def test_the_formulae_give_what_torch_counts(
    make: Callable[[PreTrainedModel], Contender], model: PreTrainedModel, workload: Workload
) -> None:
    contender = make(model)
    contender.prepare(workload)
    # The first call of our scorer also tries which of its ways are right.
    contender.score(workload)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention_flops}) as counter:
        contender.score(workload)
    assert counter.get_total_flops() == contender.model_flops(workload)


def test_sizes_of_the_models_measured_are_those_of_their_names() -> None:
    small = ModelShape.of(replace(CPU, device="meta").make_model())
    assert small.body_weights == 24 * 896 * (2 * 896 + 2 * 128 + 3 * 4_864)
    assert small.head_flops(1) == 2 * 896 * 151_936
    assert (small.num_full_attention_layers, small.attention_size) == (24, 896)
    large = ModelShape.of(replace(CUDA, device="meta").make_model())
    assert large.body_weights == 28 * 3_584 * (2 * 3_584 + 2 * 512 + 3 * 18_944)
