"""Equal numbers of forwards on all ranks, for a generator whose weights are sharded over them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from rewards.ranks.broken_forwards import WholeForwards
from rewards.ranks.exchange import Exchange, LostRank

NOTHING = -1


def shard_layers(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Spreads the weights of the decoder layers over the mesh (FSDP2), gathered layer by layer.

    The model may lie in CPU memory; each rank's part goes to its device of the mesh. Embeddings and
    head stay whole on every rank: they are small beside the layers, may be tied, and the head is
    called on its own.
    """
    names = model._no_split_modules or ()
    layers = [module for module in model.base_model.modules() if type(module).__name__ in names]
    if not layers:
        raise ValueError(
            f"generator.model: {type(model).__name__} does not name its layers, so they cannot be "
            "sharded; use a generator that fits on one device."
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


class EqualForwards:
    """While it is entered, all ranks call a sharded model's modules together, as they must.

    A forward through sharded weights is a collective: each rank gathers its part from all others.
    Ranks with different work would wait for each other forever. So before each call of a watched
    module the ranks agree on which one is called next, and a rank that wants another or none calls
    it idly. A rank that leaves goes on idly until all have left. That holds however a scorer cuts
    its batches; it costs one exchange of a byte per rank and call.

    An error on one rank, before, inside or after a forward, leaves the others in step
    (`WholeForwards`). Only where a rank cannot even gather a layer's weights, for want of memory,
    do the others end with `LostRank`, after the group's timeout.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.num_calls = 0
        self.num_idle_calls = 0
        self._idle_calls: dict[nn.Module, Callable[[], object]] = {}
        self._is_idling = False
        self._hooks: list[RemovableHandle] = []
        self._whole: list[WholeForwards] = []

    @classmethod
    def of_body(cls, exchange: Exchange, model: PreTrainedModel) -> EqualForwards:
        """Watches the model without its head: what `shard_layers` shards."""
        body = model.base_model
        one_token_BT = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        return cls(exchange).watch(body, lambda: body(input_ids=one_token_BT, use_cache=False))

    def watch(self, module: nn.Module, idle_call: Callable[[], object]) -> EqualForwards:
        """Also keeps the calls of `module` equal; `idle_call` calls it on the least work."""
        self._idle_calls[module] = idle_call
        return self

    def __enter__(self) -> EqualForwards:
        self._whole = [WholeForwards(module) for module in self._idle_calls]
        # Before the hooks that gather a module's weights, which were there first, and before those
        # of a forward, which begins only when it is this rank's turn.
        self._hooks = [
            module.register_forward_pre_hook(self._before_call, prepend=True)
            for module in self._idle_calls
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # After an interrupt or a lost rank there is nobody to keep step with.
            if error is None or (isinstance(error, Exception) and not isinstance(error, LostRank)):
                self._idle_until(NOTHING)
        finally:
            for hook in [*self._hooks, *self._whole]:
                hook.remove()

    def _before_call(self, module: nn.Module, args: Any) -> None:
        if not self._is_idling:
            self._idle_until(list(self._idle_calls).index(module))
            self.num_calls += 1

    @torch.no_grad()
    def _idle_until(self, mine: int) -> None:
        """Calls idly what others want, until it is this rank's turn or nobody wants anything."""
        while (chosen := self._choose(mine)) != mine:
            self._is_idling = True
            # What an idle call computes is nothing to anybody, and no more is an error in it; the
            # weights are gathered all the same, and a rank that is gone is missed at the next turn.
            with suppress(Exception):
                list(self._idle_calls.values())[chosen]()
            self._is_idling = False
            self.num_idle_calls += 1

    def _choose(self, mine: int) -> int:
        """What all ranks call next: the first module that any of them wants."""
        answers = self.exchange.broadcast_all(torch.tensor([mine], dtype=torch.int8))
        wanted = {int(answer) for answer in answers} - {NOTHING}
        return min(wanted, default=NOTHING)
