"""The cost of a group by pencil, and by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rewards.likelihood.flops import ModelShape, group_flops

# 100 weights; a full layer and one with a window of 3; attention 4, hidden 5, vocabulary 7.
SHAPE = ModelShape(100, 1, 1, 3, 4, 5, 7)


def test_the_cost_of_a_group_by_pencil() -> None:
    cost = group_flops(2, [3, 1], [2, 1], SHAPE)
    # Prefix: 2 tokens; both layers see 1 + 2 keys.
    assert cost.prefix == 2 * 100 * 2 + 4 * 4 * (3 + 3)
    # Tokens 3, 4, 5: the full layer sees 3 + 4 + 5 keys, the sliding one 3 each; 2 gold tokens.
    assert cost.members[0] == 2 * 100 * 3 + 4 * 4 * (12 + 9) + 2 * 5 * 7 * 2
    assert cost.members[1] == 2 * 100 * 1 + 4 * 4 * (3 + 3) + 2 * 5 * 7 * 1
    assert cost.total == cost.prefix + sum(cost.members)


def test_a_window_that_closes_within_a_span() -> None:
    window_of_4 = ModelShape(0, 0, 1, 4, 1, 0, 0)
    # Tokens 3 to 7 see 3, 4, 4, 4 and 4 keys.
    assert group_flops(2, [5], [0], window_of_4).members == (4 * 19,)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("gpt2", {}),
        ("gemma2", {"head_dim": 16}),
    ],
)
def test_the_cost_is_what_torch_counts(
    make_model: Callable[..., PreTrainedModel], family: str, fields: dict[str, Any]
) -> None:
    model = make_model(family, attn_implementation="eager", **fields)
    ids_BT = torch.arange(40)[None]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids_BT)
    shape = ModelShape.of(model)
    # Eager attention multiplies all pairs of tokens; a causal model needs n (n + 1) / 2 of n².
    layers = shape.num_full_attention_layers + shape.num_sliding_attention_layers
    unneeded = 4 * shape.attention_size * layers * (40 * 40 - 40 * 41 // 2)
    assert group_flops(0, [40], [40], shape).total == counter.get_total_flops() - unneeded


def test_of_a_mixture_only_the_experts_that_a_token_visits_count(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    fields = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    few, many = (
        ModelShape.of(make_model("qwen3_moe", num_experts=count, **fields)).body_weights
        for count in (4, 8)
    )
    # Two layers whose router has 4 more rows of 32.
    assert many - few == 2 * 4 * 32


@pytest.mark.parametrize("model_type", ["mamba", "rwkv", "gemma4_text"])
def test_a_family_without_one_size_of_attention_is_costed_by_its_weights(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]()
    with torch.device("meta"):
        shape = ModelShape.of(AutoModelForCausalLM.from_config(config))
    assert shape.attention_size == 0
    assert shape.body_flops(10) == 2 * shape.body_weights * 10 > 0
