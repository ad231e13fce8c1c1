"""How a training is spread over processes: its settings, and the same in DeepSpeed's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DistributedSettings:
    """How the agent's training is spread over the processes that torchrun or srun started."""

    zero_stage: Literal[0, 2, 3] = 0
    """What each process holds only a share of: with 0 nothing (plain data parallelism), with 2 the
    gradients and the optimizer's state, with 3 the weights as well."""
    offload_optimizer: bool = False
    """The optimizer's state lies in CPU memory, and its steps are taken there."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """Any other key of DeepSpeed's own config, passed on as it is."""

    def __post_init__(self) -> None:
        if self.zero_stage == 0 and (self.offload_optimizer or self.deepspeed):
            raise ValueError(
                "distributed.zero_stage: 0 is plain data parallelism, without DeepSpeed; give "
                "distributed.zero_stage=2 or 3, or leave out offload_optimizer and deepspeed"
            )

    def as_deepspeed(self) -> dict[str, Any] | None:
        """DeepSpeed's config, for the `deepspeed` of transformers' TrainingArguments; None without.

        `auto` is filled in by transformers, from its arguments and from the model's hidden size.
        """
        if self.zero_stage == 0:
            return None
        sharding: dict[str, Any] = {
            "stage": self.zero_stage,
            "contiguous_gradients": True,
            "reduce_bucket_size": "auto",
        }
        if self.zero_stage == 3:
            sharding |= {
                "stage3_prefetch_bucket_size": "auto",
                "stage3_param_persistence_threshold": "auto",
                # A checkpoint then holds whole weights, which `from_pretrained` loads.
                "stage3_gather_16bit_weights_on_model_save": True,
            }
        if self.offload_optimizer:
            sharding["offload_optimizer"] = {"device": "cpu"}
        ours = {
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": "auto"},
            # The gradients of many passes are added up: in bfloat16 the later ones would be lost.
            "data_types": {"grad_accum_dtype": "fp32"},
            "zero_optimization": sharding,
            # torch's AdamW, on the CPU too: DeepSpeed's own is compiled where it first runs.
            "zero_force_ds_cpu_optimizer": False,
        }
        return _merged(ours, self.deepspeed)


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """`ours`, where `theirs` has the last word about every value, at any depth."""
    merged = dict(ours)
    for name, value in theirs.items():
        known = merged.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(known, value)
        else:
            merged[name] = value
    return merged
