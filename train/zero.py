"""Around a training with DeepSpeed's ZeRO: what stays whole, and how the model is whole afterwards.

Under stage 3 the weights are spread over the processes, and a forward through them is a collective.
While it is set up, transformers shards every model that is loaded. The frozen generator must not be
among them: the processes score different things, and would wait for each other for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate.utils.memory import clear_device_cache
from torch import nn
from transformers import Trainer
from transformers.integrations import deepspeed as integration


@contextmanager
def whole() -> Iterator[None]:
    """A model that is loaded here is whole in every process, whatever is set up around it."""
    # transformers has a function to set this, one to forget it, and none that tells it.
    reference = integration._hf_deepspeed_config_weak_ref
    config = reference() if reference is not None else None
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            integration.set_hf_deepspeed_config(config)


@contextmanager
def training(trainer: Trainer) -> Iterator[None]:
    """While it is entered, `trainer` trains; afterwards its model is whole in every process.

    Gradients and the optimizer's state are let go of: what comes next has their memory. All
    processes enter and leave together.
    """
    yield
    model = cast(nn.Module, trainer.accelerator.unwrap_model(trainer.model))
    if trainer.is_deepspeed_enabled:
        weights = [_whole_copy(parameter) for parameter in model.parameters()]
        trainer.accelerator.free_memory()
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.data, parameter.grad = weight, None
        # What this process trains or loads next has nothing to do with this config.
        integration.unset_hf_deepspeed_config()
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    trainer.accelerator.free_memory()
    trainer.model_wrapped = trainer.model
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
    release_memory()


def release_memory() -> None:
    """Gives back what nothing refers to any more, also where objects referred to each other."""
    clear_device_cache(garbage_collection=True)


def _whole_copy(parameter: nn.Parameter) -> torch.Tensor:
    """The parameter's value, gathered where it is spread over the processes."""
    if not hasattr(parameter, "ds_id"):
        return parameter.data.clone()
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.data.clone()
