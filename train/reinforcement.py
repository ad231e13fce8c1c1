"""What the reinforcing trainers have in common: settings, and how transformers takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field


@dataclass(frozen=True)
class ReinforcementSettings:
    """How the policy samples, how long and how fast it learns, whatever the algorithm."""

    max_steps: Annotated[int, Field(gt=0)] = 100
    """Optimizer steps."""
    num_generations: Annotated[int, Field(gt=0)] = 8
    """G: attempts per episode."""
    per_device_batch_size: Annotated[int, Field(gt=0)] = 128
    """Attempts per forward and backward pass of one process."""
    max_completion_length: Annotated[int, Field(gt=0)] = 96
    """Longest answer, in tokens."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    lr_scheduler_type: str = "constant_with_warmup"
    lr_scheduler_kwargs: Mapping[str, Any] = field(default_factory=dict)
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    credit: Literal["play", "turn"] = "play"
    """What a turn of a collaboration is worth: the reward of the play, or by how much that falls
    when the turn is left out and the rest is scored as it was said."""
    save_steps: Annotated[int, Field(gt=0)] = 50
    """Optimizer steps between checkpoints."""
    bf16: bool = False
    gradient_checkpointing: bool = False

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that learn from the same answers."""
        return 1

    @property
    def steps_per_savepoint(self) -> int:
        """After multiples of so many optimizer steps a checkpoint holds all there is."""
        return 1

    @property
    def num_rollouts(self) -> int:
        """How often answers are sampled in the whole run."""
        return math.ceil(self.max_steps / self.steps_per_rollout)


def trainer_arguments(
    settings: ReinforcementSettings,
    output_dir: Path,
    seed: int,
    accumulation: int,
    deepspeed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings as fields of transformers' TrainingArguments; `deepspeed` is its own config."""
    import torch

    return {
        "output_dir": str(output_dir),
        "max_steps": settings.max_steps,
        "per_device_train_batch_size": settings.per_device_batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "lr_scheduler_kwargs": dict(settings.lr_scheduler_kwargs),
        "warmup_steps": settings.warmup_ratio,
        "adam_beta1": settings.adam_beta1,
        "adam_beta2": settings.adam_beta2,
        "max_grad_norm": settings.max_grad_norm,
        "save_steps": settings.save_steps,
        "bf16": settings.bf16,
        "activation_checkpointing": settings.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "deepspeed": None if deepspeed is None else dict(deepspeed),
    }
