"""What PPO adds: a critic that learns beside the policy, and the passes through both."""

from __future__ import annotations

from dataclasses import replace

from launch.memory.activations import (
    Batch,
    Precision,
    activations,
    attention_mask,
    generation,
    hidden_states,
    whole_answer_logits,
)
from launch.memory.job import Job, precision_of
from launch.memory.states import FP32, Training, added_states, live_weights
from launch.memory.terms import Term


def critic_parts(job: Job) -> list[tuple[str, Training]]:
    """What learns in the critic, by name: its head, and a trunk where it has one of its own.

    torch makes the head in fp32. DeepSpeed casts all to one type and keeps the critic, which has a
    parameter group of its own, in one buffer.
    """
    policy, lora = job.reinforcement, job.config.policy.lora
    head = replace(
        policy, learned=(job.policy.hidden, 1), frozen=(), learned_bytes=FP32, frozen_bytes=FP32
    )
    if job.config.trainer.critic == "shared":
        return [("critic's head", head)]
    trunk = replace(
        policy,
        learned=job.policy.trunk if lora is None else job.policy.lora_weights(lora.r),
        frozen=() if lora is None else job.policy.trunk,
    )
    if policy.zero_stage == 0:
        return [("critic's trunk", trunk), ("critic's head", head)]
    return [("critic", replace(trunk, learned=(*trunk.learned, *head.learned)))]


def critic_states(job: Job) -> list[Term]:
    """What the critic keeps from step to step; the bucket of gradients is the policy's."""
    return [term for name, part in critic_parts(job) for term in added_states(part, name)]


def rollouts(job: Job) -> list[Term]:
    """As many answers at once as a pass of the update takes; weights stay spread under ZeRO-3."""
    training, trainer = job.reinforcement, job.config.trainer
    _check_division(job)
    gathered = live_weights(training, "policy") if training.zero_stage == 3 else []
    return [
        *gathered,
        *generation(
            job.policy,
            Batch(trainer.per_device_batch_size, job.context_tokens),
            trainer.max_completion_length,
            precision_of(training),
            job.policy_model.attn_implementation,
        ),
    ]


def update(job: Job) -> list[Term]:
    """One pass forward and backward through policy and critic together.

    The passes that look at a rollout before it is learned from take less: they keep nothing.
    """
    training, trainer = job.reinforcement, job.config.trainer
    batch, precision = job.attempts, precision_of(training)
    checkpoints = trainer.gradient_checkpointing
    kept, one_layer = activations(job.policy, batch, precision, checkpoints)
    masked_layers = 1 if checkpoints else job.policy.num_layers
    return [
        *_live_weights(job, training),
        kept,
        *_for_the_critic(job, kept, batch, precision),
        one_layer,
        *whole_answer_logits(job.policy, batch.num_rows, trainer.max_completion_length, precision),
        attention_mask(batch, job.policy_model.attn_implementation, masked_layers),
    ]


def _for_the_critic(job: Job, kept: Term, batch: Batch, precision: Precision) -> list[Term]:
    """The trunk's activations, or the policy's hidden states, which come of all layers or none."""
    if job.config.trainer.critic == "separate":
        return [replace(kept, name=f"critic: {kept.name}")]
    if job.config.trainer.gradient_checkpointing:
        # They are the inputs of the layers, which are kept anyway.
        return []
    return [hidden_states(job.policy, batch, precision)]


def _live_weights(job: Job, training: Training) -> list[Term]:
    """Stage 3 has one limit for all that it gathers; bfloat16 copies are made of each part."""
    if training.zero_stage:
        critic = [part for _, part in critic_parts(job)]
        both = replace(
            training,
            learned=(*training.learned, *(n for part in critic for n in part.learned)),
            frozen=(*training.frozen, *(n for part in critic for n in part.frozen)),
        )
        return live_weights(both, "policy and critic")
    # The head stays out of autocast: values in bfloat16 would have three digits.
    trunks = [(name, part) for name, part in critic_parts(job) if name == "critic's trunk"]
    parts = [("policy", training), *trunks]
    return [term for name, part in parts for term in live_weights(part, name)]


def _check_division(job: Job) -> None:
    """A rollout that does not divide over the GPUs is refused here as it is where it is trained."""
    from train.ppo.settings import divide

    divide(job.config.trainer, job.num_gpus)
