"""A forward through sharded weights that breaks off on one rank, without leaving the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.hooks import RemovableHandle


class WholeForwards:
    """Until `remove`, a forward of `module` that an error ends still takes part in all gathers.

    The other ranks are in the middle of the same call, and each sharded layer in it (FSDP2) waits
    for this rank's part of the weights. So the layers that were not reached are gathered, and freed
    again, before the error goes on its way: the others end their calls with right results, and this
    rank is fit for the next. For models whose layers run once each, in order.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = [m for m in module.modules() if isinstance(m, FSDPModule)]
        self._done: set[nn.Module] = set()
        self._inside: nn.Module | None = None
        self._is_running = False
        self._handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(self._begin, prepend=True),
            *(_module(m).register_forward_pre_hook(self._enter) for m in self._layers),
            *(_module(m).register_forward_hook(self._leave) for m in self._layers),
            # Called after an error as well, then without outputs.
            module.register_forward_hook(self._end, always_call=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        self._done.clear()
        self._inside = None
        self._is_running = True

    def _enter(self, layer: nn.Module, inputs: Any) -> None:
        self._inside = layer
        self._done.discard(layer)

    def _leave(self, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        self._done.add(layer)

    @torch.no_grad()
    def _end(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        # Errors of hooks that come before this forward's beginning are none of its own.
        is_broken, self._is_running = self._is_running and outputs is None, False
        if not is_broken:
            return
        for layer in self._layers:
            if layer in self._done:
                continue
            # Does nothing for the layer in which the error arose, whose weights are there.
            layer.unshard()
            if layer is self._inside:
                layer.reset_iter_state()
            else:
                layer.reshard()


def _module(layer: FSDPModule) -> nn.Module:
    assert isinstance(layer, nn.Module)
    return layer
