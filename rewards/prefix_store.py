"""The model's state after a prefix, kept in CPU memory so that a later epoch skips the prefill."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin

from rewards.types import TokenIds

T = TypeVar("T")


class PrefixStore:
    """Keeps what `put` is given, by prefix, within `max_bytes`; the least recently used goes first.

    A value is any nesting of tensors in lists, tuples, dicts, dataclasses and transformers caches:
    keys and values, sliding windows, convolution and recurrent states alike. Its tensors are copied
    to CPU memory, pinned where they come from a GPU, and `get` returns copies on the device that
    they came from. So neither side can change what the other holds, though caches change in place.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(
                f"max_bytes must not be negative; got {max_bytes}. Use 0 for no store."
            )
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_hits = 0
        self.num_misses = 0
        self.num_evicted = 0
        # Least recently used first.
        self._kept: OrderedDict[TokenIds, tuple[Any, int]] = OrderedDict()

    def get(self, prefix_ids: TokenIds) -> Any | None:
        """A copy of what was put under this prefix, or None."""
        if prefix_ids not in self._kept:
            self.num_misses += 1
            return None
        self.num_hits += 1
        self._kept.move_to_end(prefix_ids)
        parked, _ = self._kept[prefix_ids]
        return _map_leaves(parked, _Parked, _Parked.restored)

    def put(self, prefix_ids: TokenIds, value: Any) -> None:
        """Keeps a copy of `value`, or nothing where it alone is larger than the budget."""
        self._drop(prefix_ids)
        sizes: list[int] = []
        _map_leaves(value, Tensor, lambda tensor: sizes.append(_bytes_in_cpu_memory(tensor)))
        if sum(sizes) > self.max_bytes:
            return
        while self.num_bytes + sum(sizes) > self.max_bytes:
            self._drop(next(iter(self._kept)))
            self.num_evicted += 1
        self._kept[prefix_ids] = (_map_leaves(value, Tensor, _Parked.of), sum(sizes))
        self.num_bytes += sum(sizes)

    def get_or_make(self, prefix_ids: TokenIds, make: Callable[[], T]) -> T:
        value = self.get(prefix_ids)
        if value is None:
            value = make()
            self.put(prefix_ids, value)
        return value

    def _drop(self, prefix_ids: TokenIds) -> None:
        _, num_bytes = self._kept.pop(prefix_ids, (None, 0))
        self.num_bytes -= num_bytes


@dataclass(frozen=True, eq=False)
class _Parked:
    """A tensor's content in CPU memory, and the device that it belongs on."""

    content: Tensor
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> _Parked:
        # A tensor that is a view of a larger one leaves the rest behind.
        content = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return cls(content.copy_(tensor), tensor.device)

    def restored(self) -> Tensor:
        # From pinned memory the copy runs beside the host, in order with the stream's other work.
        return self.content.to(self.device, non_blocking=True, copy=True)


def _bytes_in_cpu_memory(tensor: Tensor) -> int:
    num_bytes = tensor.numel() * tensor.element_size()
    # torch takes pinned memory in powers of two.
    return 1 << (num_bytes - 1).bit_length() if tensor.is_cuda and num_bytes else num_bytes


def _map_leaves(value: Any, leaf: type, change: Callable[[Any], Any]) -> Any:
    """The same structure with every `leaf` changed; what is neither leaf nor structure is shared.

    The library's own ways of moving a cache know each only some of its kinds of layer, so its
    objects are walked by their attributes.
    """
    if isinstance(value, leaf):
        return change(value)
    if isinstance(value, dict):
        return {name: _map_leaves(item, leaf, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_leaves(item, leaf, change) for item in value)
    structures = (Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin)
    if isinstance(value, structures) or dataclasses.is_dataclass(value):
        changed = copy.copy(value)
        for name, item in vars(value).items():
            # A frozen dataclass forbids plain assignment.
            object.__setattr__(changed, name, _map_leaves(item, leaf, change))
        return changed
    return value
