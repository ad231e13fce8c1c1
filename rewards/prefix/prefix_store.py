"""The model's state after a prefix, kept in CPU memory so that a later epoch skips the prefill."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.prefix.prefix import Prefix
from rewards.types import TokenIds


@dataclass(frozen=True)
class _Kept:
    """A prefix in CPU memory, the device that it belongs on, and what it takes."""

    prefix: Prefix
    device: torch.device
    num_bytes: int


class PrefixStore:
    """Keeps prefixes within `max_bytes` of CPU memory; the least recently used goes first.

    The memory is pinned where a prefix comes from a GPU, and `get` brings it back there.
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
        self._kept: OrderedDict[TokenIds, _Kept] = OrderedDict()

    def get(self, prefix_ids: TokenIds) -> Prefix | None:
        """What was put under these ids, on the device that it came from, or None."""
        if prefix_ids not in self._kept:
            self.num_misses += 1
            return None
        self.num_hits += 1
        self._kept.move_to_end(prefix_ids)
        kept = self._kept[prefix_ids]
        # From pinned memory the copy runs beside the host, in order with the stream's other work.
        return kept.prefix.moved(lambda tensor: tensor.to(kept.device, non_blocking=True))

    def put(self, prefix_ids: TokenIds, prefix: Prefix) -> None:
        """Keeps the prefix, or nothing where it alone is larger than the budget."""
        self._drop(prefix_ids)
        num_bytes = sum(_bytes_in_cpu_memory(tensor) for tensor in prefix.tensors)
        if num_bytes > self.max_bytes:
            return
        while self.num_bytes + num_bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))
            self.num_evicted += 1
        device = prefix.last_hidden_1H.device
        self._kept[prefix_ids] = _Kept(prefix.moved(_to_cpu_memory), device, num_bytes)
        self.num_bytes += num_bytes

    def _drop(self, prefix_ids: TokenIds) -> None:
        if (kept := self._kept.pop(prefix_ids, None)) is not None:
            self.num_bytes -= kept.num_bytes


def _to_cpu_memory(tensor: Tensor) -> Tensor:
    # A copy in any case: a view, of the end of a sliding window say, would keep all the rest alive.
    content = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return content.copy_(tensor)


def _bytes_in_cpu_memory(tensor: Tensor) -> int:
    # torch takes pinned memory in powers of two.
    return (
        1 << (tensor.nbytes - 1).bit_length() if tensor.is_cuda and tensor.nbytes else tensor.nbytes
    )
