"""Attention of many suffixes to one prefix, without a copy of the prefix and without padding.

The suffixes lie one behind the other in a single row. Each token attends to the prefix and, apart
from it, to its own suffix up to itself; the two results are merged by their log-sum-exps, which is
exact: softmax over a union of keys is the mean of the softmaxes over its parts, weighted by the
parts' sums of exponentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rewards.likelihood.logits import body
from rewards.prefix.prefix import Prefix

# N tokens of all suffixes in one row, T tokens, P prefix tokens, A attention heads, K heads of keys
# and values, D head size.

NAME = "nextchapter_merged"

# What families hand to an attention function that changes its meaning.
CHANGES = ("softcap", "sliding_window", "s_aux", "position_bias", "head_mask")


class CannotMerge(ValueError):
    """The family attends in a way that this attention does not know."""


@dataclass
class _Packed:
    """What the one row that is being computed consists of."""

    keys_and_values: Sequence[tuple[Tensor, Tensor]]
    suffix_lengths: Sequence[int]
    layers_seen: set[int] = field(default_factory=set)


_packed: ContextVar[_Packed | None] = ContextVar("packed suffixes", default=None)


def packed_states(
    model: PreTrainedModel, prefix: Prefix, suffixes: Sequence[Sequence[int]]
) -> list[Tensor]:
    """The last hidden states of each suffix, as if it alone stood behind the prefix.

    Raises:
        CannotMerge: a layer is no plain attention to all that came before.
    """
    packed = _Packed(_keys_and_values(prefix), [len(ids) for ids in suffixes])
    ids_1N = torch.tensor([[i for ids in suffixes for i in ids]], device=model.device)
    positions = [torch.arange(len(ids)) + prefix.num_tokens for ids in suffixes]
    with _attending(model, packed):
        hidden_1NH = body(model)(
            input_ids=ids_1N,
            position_ids=torch.cat(positions).to(model.device)[None],
            use_cache=False,
        ).last_hidden_state
    if len(packed.layers_seen) != len(packed.keys_and_values):
        raise CannotMerge("not every layer attends through transformers' interface")
    return list(hidden_1NH[0].split(list(packed.suffix_lengths)))


def merged_attention(
    module: torch.nn.Module,
    query_1AND: Tensor,
    key_1KND: Tensor,
    value_1KND: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers' interface, for use in `packed_states` alone."""
    packed = _packed.get()
    assert packed is not None, "merged attention outside packed_states"
    if changes := [name for name in CHANGES if kwargs.get(name) is not None]:
        raise CannotMerge(f"its attention knows {', '.join(changes)}")
    layer_idx: int = module.layer_idx  # type: ignore[assignment]
    packed.layers_seen.add(layer_idx)
    before, before_lse = attend(query_1AND, *packed.keys_and_values[layer_idx], False, scaling)
    lengths = list(packed.suffix_lengths)
    own = [
        attend(query, key, value, True, scaling)
        for query, key, value in zip(
            *(t.split(lengths, dim=2) for t in (query_1AND, key_1KND, value_1KND)), strict=True
        )
    ]
    merged_1AND = merge(
        before,
        before_lse,
        torch.cat([out for out, _ in own], dim=2),
        torch.cat([lse for _, lse in own], dim=2),
    )
    return merged_1AND.transpose(1, 2).contiguous(), None


def merge(out_a_AND: Tensor, lse_a_AN: Tensor, out_b_AND: Tensor, lse_b_AN: Tensor) -> Tensor:
    """Attention to the keys of a and b together, from attention to each and its log-sum-exp."""
    # exp(a) / (exp(a) + exp(b)) = sigmoid(a - b): no exponential can overflow.
    weight_of_a_AN1 = torch.sigmoid(lse_a_AN - lse_b_AN)[..., None]
    merged_AND = torch.lerp(out_b_AND.float(), out_a_AND.float(), weight_of_a_AN1)
    return merged_AND.to(out_a_AND.dtype)


def attend(
    query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp in fp32, by the kernel of the device that gives both."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, scale=scaling
        )
    repeats = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
    if query.dtype == torch.float32:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, is_causal, scale=scaling
        )
        # The kernel pads its log-sum-exp to a multiple of 32 rows.
        return out, lse[..., : query.shape[2]]
    out, lse, *_ = aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, is_causal, False, scale=scaling
    )
    return out, lse[..., : query.shape[2]]


def no_mask(*args: Any, **kwargs: Any) -> None:
    """Who attends to what is known from the suffixes' lengths."""


@contextmanager
def _attending(model: PreTrainedModel, packed: _Packed) -> Iterator[None]:
    """Lets the model attend by `merged_attention`, and puts back what was there."""
    config = cast(PreTrainedModel, body(model)).config.get_text_config()
    before = config._attn_implementation
    token = _packed.set(packed)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _packed.reset(token)


def _keys_and_values(prefix: Prefix) -> list[tuple[Tensor, Tensor]]:
    found = []
    for layer in prefix.cache.layers:
        if type(layer) is not DynamicLayer:
            raise CannotMerge(f"it has a {type(layer).__name__}")
        if layer.keys is None or layer.values is None:
            raise CannotMerge("its layers share keys and values")
        found.append((layer.keys, layer.values))
    return found


AttentionInterface.register(NAME, merged_attention)
AttentionMaskInterface.register(NAME, no_mask)
