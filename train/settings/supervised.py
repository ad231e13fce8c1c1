"""The settings of a supervised stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True)
class SupervisedSettings:
    """How long and how fast a supervised stage learns."""

    max_steps: Annotated[int, Field(gt=0)] = 300
    """Optimizer steps."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Samples per optimizer step and process."""
    gradient_accumulation_steps: Annotated[int, Field(gt=0)] = 1
    """Micro-batches per optimizer step; each holds `batch_size` samples."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up the learning rate falls along a cosine to a tenth, or stays."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """Share of the steps in which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` takes Muon for the matrices inside the blocks, and AdamW for all else."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    prompt_loss_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weight of a prompt token's loss relative to a target token's."""
    bf16: bool = False
    """Mixed precision; needs a device with bfloat16."""
    gradient_checkpointing: bool = False
