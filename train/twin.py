"""Two models on one set of weights: the frozen generator, and under it the base of the adapters."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """A second model whose weights lie where those of `model` lie, and are not to be changed.

    Its modules and parameters are its own: what is added to it, such as adapters, `model` does not
    see. Only the numbers are shared, so that a GPU holds them once.
    """
    shared: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in model.parameters()
    }
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)
