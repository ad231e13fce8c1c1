"""What a model keeps of a prefix, so that it is read once for all that follows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

from rewards.likelihood.logits import body
from rewards.types import TokenIds

# B rows of suffixes, T tokens, H hidden size.

Layer = CacheLayerMixin | LinearAttentionCacheLayerMixin | DummyLayer


@dataclass(frozen=True)
class Prefix:
    """The state of a model after a prefix: one row of each layer's cache, and the last state.

    The first gold token is foretold by `last_hidden_1H` where no guidance stands before it. Nothing
    here is ever changed: whoever extends the cache works on layers of its own.
    """

    num_tokens: int
    cache: Cache
    last_hidden_1H: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """All that it holds."""
        of_layers = [t for layer in self.cache.layers for t in _tensors(vars(layer))]
        return [*of_layers, self.last_hidden_1H]

    def moved(self, move: Callable[[Tensor], Tensor]) -> Prefix:
        """A copy whose every tensor is what `move` makes of it, such as one on another device."""
        last_hidden_1H = move(self.last_hidden_1H)
        cache = copy.copy(self.cache)
        cache.layers = [_moved(layer, move, last_hidden_1H.device) for layer in self.cache.layers]
        return replace(self, cache=cache, last_hidden_1H=last_hidden_1H)


@torch.no_grad()
def prefill(model: PreTrainedModel, prefix_ids: TokenIds) -> Prefix:
    """Reads the prefix."""
    ids_BT = torch.tensor([prefix_ids], device=model.device)
    outputs = body(model)(input_ids=ids_BT, use_cache=True)
    # A copy of the last state, or all the others would be kept alive with it.
    last_hidden_1H = outputs.last_hidden_state[0, -1:].clone()
    return Prefix(len(prefix_ids), outputs.past_key_values, last_hidden_1H)


def expanded(prefix: Prefix, num_rows: int) -> Cache:
    """A cache in which each of the rows has the prefix behind it.

    Attention's keys and values are repeated one layer at a time, while that layer is computed; the
    states of other layers are small and repeated here.
    """
    cache = copy.copy(prefix.cache)
    cache.layers = [_for_rows(layer, num_rows) for layer in prefix.cache.layers]
    return cache


class SharedLayer(DynamicLayer):
    """Keys and values of a prefix that every row reads and no row adds to."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self._layer = layer
        self.is_sliding = layer.is_sliding
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """The prefix and what follows it, row by row; nothing is kept."""
        joined = [
            torch.cat([kept.expand(len(new), -1, -1, -1), new], dim=-2)
            for kept, new in ((self._layer.keys, key_states), (self._layer.values, value_states))
            if kept is not None
        ]
        return joined[0], joined[1]

    def get_seq_length(self) -> int:
        return self._layer.get_seq_length()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._layer.get_mask_sizes(query_length)


def _for_rows(layer: Layer, num_rows: int) -> Layer:
    # Exactly these: what a subclass does in `update` is its own affair.
    if type(layer) is DynamicLayer or type(layer) is DynamicSlidingWindowLayer:
        return SharedLayer(layer)
    own = copy.deepcopy(layer)
    own.reorder_cache(cast(torch.LongTensor, torch.zeros(num_rows, dtype=torch.long)))
    return own


def _tensors(value: object) -> list[Tensor]:
    """All tensors in a layer's fields, some of which are dicts of them."""
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value.values() for t in _tensors(v)] if isinstance(value, dict) else []


def _moved(layer: Layer, move: Callable[[Tensor], Tensor], device: torch.device) -> Layer:
    def of(value: object) -> object:
        if isinstance(value, dict):
            return {key: of(v) for key, v in value.items()}
        if isinstance(value, torch.device):
            return device
        return move(value) if isinstance(value, Tensor) else value

    copied = copy.copy(layer)
    vars(copied).update({name: of(value) for name, value in vars(layer).items()})
    return copied
