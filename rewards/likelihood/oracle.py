"""A model in fp32, by which faster and rounder ways are judged."""

from __future__ import annotations

import copy
import os

import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

# A copy of the model in fp32 may take this share of the free memory.
COPY_SHARE = 0.7


def fp32_copy(model: PreTrainedModel) -> PreTrainedModel | None:
    """A copy of the model in fp32; None where it would not fit, or where the model is spread out or
    quantized, so that there is no such copy.
    """
    if getattr(model, "is_quantized", False):
        return None
    parameters = list(model.parameters())
    if len({p.device for p in parameters}) > 1 or any(isinstance(p, DTensor) for p in parameters):
        return None
    if 4 * sum(p.numel() for p in parameters) > COPY_SHARE * _free_bytes(model.device):
        return None
    return copy.deepcopy(model).float()


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
