"""Changes of a run's settings that save memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Change:
    """A setting as a user would write it, and what it makes of a `RunConfig`."""

    setting: str
    apply: Callable[[Any], Any]


def possible_changes(config: Any) -> Iterator[Change]:
    """Those that this run has not made yet, the one that costs least first."""
    trainer, lora = config.trainer, config.policy.lora
    # Adapters by role go with neither checkpoints of activations nor DeepSpeed.
    by_role = lora is not None and lora.per_role
    if not trainer.gradient_checkpointing and not by_role:
        yield Change(
            "trainer.gradient_checkpointing=true", _set("trainer", gradient_checkpointing=True)
        )
    if config.evaluation.batch_size > 1:
        yield Change("evaluation.batch_size=1", _set("evaluation", batch_size=1))
    if not config.scorer.max_tokens_per_batch:
        change = _set("scorer", max_tokens_per_batch=16_384)
        yield Change("scorer.max_tokens_per_batch=16384", change)
    can_shard = config.hardware.num_gpus > 1 and not by_role
    if config.distributed.zero_stage != 3 and can_shard:
        yield Change("distributed=zero3", _set("distributed", zero_stage=3))
    if trainer.per_device_batch_size > 1:
        change = _set("trainer", per_device_batch_size=1)
        yield Change("trainer.per_device_batch_size=1", change)
    if trainer.algorithm == "ppo":
        if trainer.critic == "separate":
            yield Change("trainer.critic=shared", _set("trainer", critic="shared"))
    elif trainer.episodes_at_once != 1 and trainer.num_iterations == 1:
        yield Change("trainer.episodes_at_once=1", _set("trainer", episodes_at_once=1))
    if config.sft_baseline is not None:
        yield Change("sft_baseline=null", lambda config: replace(config, sft_baseline=None))
    if can_shard and not config.distributed.offload_optimizer:
        change = _set("distributed", offload_optimizer=True, zero_stage=3)
        yield Change("distributed=zero3_offload", change)
    if lora is None:
        yield Change("policy=lora", _with_adapters)


def _set(node: str, **values: Any) -> Callable[[Any], Any]:
    return lambda config: replace(config, **{node: replace(getattr(config, node), **values)})


def _with_adapters(config: Any) -> Any:
    from train.schema import LoraConfig

    return replace(config, policy=replace(config.policy, lora=LoraConfig()))
