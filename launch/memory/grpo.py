"""What GRPO's rollouts and updates add to what stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.memory.activations import (
    Batch,
    activations,
    attention_mask,
    fused_head,
    generation,
)
from launch.memory.job import Job, precision_of
from launch.memory.states import live_weights, whole_weights
from launch.memory.terms import GB, Term


def rollouts(job: Job) -> list[Term]:
    """All answers that one process samples together, or an engine that samples them."""
    from train.settings.grpo import steps_per_generation

    trainer, training = job.config.trainer, job.reinforcement
    if job.uses_vllm:
        return vllm(job)
    batches = steps_per_generation(trainer, job.num_gpus)
    at_once = trainer.per_device_batch_size * (1 if job.has_turns else batches)
    return [
        *whole_weights(training, "policy"),
        *generation(
            job.policy,
            Batch(at_once, job.context_tokens),
            trainer.max_completion_length,
            precision_of(training),
            job.policy_model.attn_implementation,
        ),
    ]


def update(job: Job) -> list[Term]:
    """One pass forward and backward through the policy, with TRL's head."""
    training, trainer = job.reinforcement, job.config.trainer
    batch, precision = job.attempts, precision_of(training)
    return [
        *live_weights(training, "policy"),
        *activations(job.policy, batch, precision, trainer.gradient_checkpointing),
        fused_head(job.policy, batch, precision, job.config.policy.lora is None),
        attention_mask(
            batch,
            job.policy_model.attn_implementation,
            1 if trainer.gradient_checkpointing else job.policy.num_layers,
        ),
    ]


def vllm(job: Job, asleep: bool = False) -> list[Term]:
    """What an engine in the same process reserves; `asleep` where it may have given that back."""
    if not job.uses_vllm:
        return []
    trainer = job.config.trainer
    options: Mapping[str, Any] = trainer.trl
    if trainer.sampler == "vllm_server":
        return [Term("vLLM", 0, "on a server of its own")]
    if asleep and options.get("vllm_enable_sleep_mode"):
        return [Term("vLLM", 0, "asleep")]
    share = options.get("vllm_gpu_memory_utilization", 0.3)
    size = int(share * job.config.hardware.gpu_memory_gb * GB)
    return [Term("vLLM", size, f"{share:.0%} of the GPU, with its own weights")]
