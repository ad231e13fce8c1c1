"""What passes take, against a pencil and against what autograd really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from launch.memory.activations import (
    Batch,
    Precision,
    activations,
    attention_mask,
    fused_head,
    generation,
    hidden_states,
    layer_bytes,
    residual_bytes,
    whole_answer_logits,
    whole_logits,
)
from launch.memory.shapes import Shape, from_config

# Of what is counted from the code of two families; kernels differ in what they copy.
TOLERANCE = 0.1
NUM_TOKENS = 48
SHAPE = Shape(
    weights=(),
    trunk=(),
    linears=(),
    num_layers=3,
    hidden=10,
    intermediate=20,
    query_size=10,
    key_size=5,
    num_heads=2,
    vocab=100,
    longest=1000,
    source="a pencil",
)


def test_a_layer_keeps_norms_attention_and_mlp() -> None:
    # 8 + 16·10, 5·2·10 + 4·2, 4·2·20.
    assert layer_bytes(SHAPE, "bfloat16") == 168 + 108 + 160
    # 8 + 24·10, 5·4·10 + 4·2, 4·4·20.
    assert layer_bytes(SHAPE, "float32") == 248 + 208 + 320


def test_with_checkpoints_each_layer_keeps_its_input_and_one_is_done_again() -> None:
    batch = Batch(num_rows=2, num_tokens=7)
    inputs, again = activations(SHAPE, batch, "bfloat16", checkpoints=True)
    assert inputs.num_bytes == 14 * 3 * 20
    assert again.num_bytes == 14 * 2 * 436
    kept, gradients = activations(SHAPE, batch, "bfloat16", checkpoints=False)
    assert (kept.num_bytes, gradients.num_bytes) == (14 * 3 * 436, 14 * 436)


def test_generating_keeps_keys_and_values_of_prompts_and_answers() -> None:
    cache, _, _, mask = generation(SHAPE, Batch(4, 100), 20, "bfloat16", None)
    # 4 rows of 120 tokens, 3 layers, 5 of keys and 5 of values, 2 bytes.
    assert cache.num_bytes == 4 * 120 * 3 * 10 * 2
    assert mask.num_bytes == 4 * 100 * 100 * 3
    assert attention_mask(Batch(4, 100), "flash_attention_2").num_bytes == 0
    # Under autocast rotary embeddings leave keys in fp32.
    assert generation(SHAPE, Batch(4, 100), 20, "autocast", None)[0].num_bytes == 4 * 120 * 90


def test_logits_come_in_tiles_or_whole() -> None:
    batch = Batch(2, 7)
    tile, states, head = 14 * 32_768 * 2, 4 * 10 * 14, 4 * 100 * 10
    assert fused_head(SHAPE, batch, "bfloat16", is_learned=True).num_bytes == tile + states + head
    assert fused_head(SHAPE, batch, "bfloat16", is_learned=False).num_bytes == tile + states
    assert whole_logits(SHAPE, batch, "bfloat16").num_bytes == 14 * 100 * 16


def test_ppo_has_logits_of_answers_whole_and_of_one_in_fp32() -> None:
    # 2 answers of 5 tokens and the state before them, 100 words, with gradients in bfloat16.
    logits, one = whole_answer_logits(SHAPE, 2, 5, "bfloat16")
    assert (logits.num_bytes, one.num_bytes) == (2 * 6 * 100 * 4, 5 * 100 * 16)
    # The embedding's and those of 3 layers.
    assert hidden_states(SHAPE, Batch(2, 7), "bfloat16").num_bytes == 14 * 4 * 10 * 2


def tiny_qwen(num_layers: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=64,
            intermediate_size=200,
            num_hidden_layers=num_layers,
            num_attention_heads=8,
            num_key_value_heads=2,
            vocab_size=100,
            max_position_embeddings=512,
        )
    )


def kept_bytes(num_layers: int, num_rows: int, precision: Precision, checkpoints: bool) -> int:
    """What autograd keeps of a forward pass through all but the head, weights aside."""
    model: Any = tiny_qwen(num_layers).train()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if checkpoints:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids_BT = torch.arange(num_rows * NUM_TOKENS).reshape(num_rows, NUM_TOKENS) % 100
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[:, :5] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"),
    ):
        model.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


def kept_per_token(precision: Precision, checkpoints: bool) -> float:
    """Of one layer: what two more layers make of two more rows, so that nothing else counts."""
    of_two_layers = [
        kept_bytes(4, rows, precision, checkpoints) - kept_bytes(2, rows, precision, checkpoints)
        for rows in (4, 2)
    ]
    return (of_two_layers[0] - of_two_layers[1]) / 2 / (2 * NUM_TOKENS)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast"])
def test_autograd_keeps_as_much_as_the_plan_says(precision: Precision) -> None:
    planned = layer_bytes(from_config(tiny_qwen(2).config, "tiny"), precision)
    if precision == "autocast":
        # Each layer casts the mask: two bytes for every key that a token may see.
        planned += 2 * NUM_TOKENS
    assert kept_per_token(precision, checkpoints=False) == pytest.approx(planned, rel=TOLERANCE)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpoints_keep_the_input_of_each_layer(precision: Precision) -> None:
    planned = residual_bytes(from_config(tiny_qwen(2).config, "tiny"), precision)
    assert kept_per_token(precision, checkpoints=True) == pytest.approx(planned, rel=TOLERANCE)
