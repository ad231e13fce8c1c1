"""Messages of bytes between the ranks of a process group, as tensors: nothing is pickled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class LostRank(RuntimeError):
    """Another process of the group is gone, or does not answer."""


class Exchange:
    """Collective calls of one process group: every rank has to make each of them, in one order.

    `num_bytes_sent` and `num_bytes_received` count what goes to and comes from other ranks;
    `seconds_waited` is how long the calls took, which is mostly until the last rank comes.

    Raises:
        LostRank: a collective failed, which happens when a process of the group died or did not
            come within the group's timeout. With NCCL the watchdog may end the process instead.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.num_ranks = dist.get_world_size(group)
        self.num_bytes_sent = 0
        self.num_bytes_received = 0
        self.seconds_waited = 0.0
        self._device = _device_of(group)

    def broadcast_all(self, message: Tensor) -> list[Tensor]:
        """Every rank's message, by rank; all have one length and dtype."""
        received = [torch.empty_like(message, device=self._device) for _ in range(self.num_ranks)]
        sent = message.to(self._device)
        self._call(lambda: dist.all_gather(received, sent, group=self.group))
        self._count(message.nbytes * (self.num_ranks - 1), message.nbytes * (self.num_ranks - 1))
        return [t.cpu() for t in received]

    def swap(self, messages: Sequence[Tensor]) -> list[Tensor]:
        """Sends `messages[r]`, of uint8 and any length, to rank r; gives what came from each."""
        sent_sizes = torch.tensor([len(m) for m in messages])
        sizes = self._all_to_all(sent_sizes, [1] * self.num_ranks, [1] * self.num_ranks).tolist()
        received = self._all_to_all(torch.cat(list(messages)), sent_sizes.tolist(), sizes)
        return list(received.split(sizes))

    def _all_to_all(self, sent: Tensor, sent_sizes: list[int], sizes: list[int]) -> Tensor:
        received = torch.empty(sum(sizes), dtype=sent.dtype, device=self._device)
        moved = sent.to(self._device)
        self._call(
            lambda: dist.all_to_all_single(received, moved, sizes, sent_sizes, group=self.group)
        )
        self._count(
            sent.element_size() * (sum(sent_sizes) - sent_sizes[self.rank]),
            sent.element_size() * (sum(sizes) - sizes[self.rank]),
        )
        return received.cpu()

    def _call(self, collective: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            done = collective()
            self.seconds_waited += time.perf_counter() - began
            return done
        except RuntimeError as error:
            # gloo: "[file:line] What happened [address]. Advice for its developers."
            reason = re.sub(r"^\[\S+\] ", "", str(error).strip()).split(". ")[0]
            raise LostRank(
                f"rank {self.rank} lost the other processes ({reason}); one of them died or hangs. "
                "Look for the first error in the logs of the others, then resume the run."
            ) from error

    def _count(self, sent: int, received: int) -> None:
        self.num_bytes_sent += sent
        self.num_bytes_received += received


def _device_of(group: dist.ProcessGroup | None) -> torch.device:
    """Where the group's backend wants its tensors; the CPU where it can, to leave GPUs alone."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or "cpu:" in dist.get_backend_config(group):
        return torch.device("cpu")
    return torch.device(accelerator.type, torch.accelerator.current_device_index())
