"""A run's phases, and what lies on one GPU in each: from its settings and its models' shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from launch.memory import grpo, ppo
from launch.memory.activations import Batch, activations, generation, scoring, whole_logits
from launch.memory.job import Job, precision_of
from launch.memory.shapes import Shape
from launch.memory.states import Training, kept_states, live_weights
from launch.memory.terms import BYTES, Phase, Term, short, times

# What the scorer takes where `scorer.max_tokens_per_batch` leaves it to the free memory.
MOST_SCORED_TOKENS = 65_536


def plan(job: Job) -> list[Phase]:
    """All phases of the run, in their order."""
    config = job.config
    found = []
    if config.warm_start is not None:
        found.append(_supervised(job, "warm start", config.warm_start, job.policy))
    if config.sft_baseline is not None:
        found.append(_supervised(job, "SFT baseline", config.sft_baseline, job.generator))
    return [*found, *_reinforcement(job), _evaluation(job)]


def _generator(job: Job) -> Term:
    """Whole, unless the settings say otherwise; then embeddings and head stay as they are."""
    config, shape = job.config, job.generator
    size, count = BYTES[config.generator.model.dtype], shape.num_weights
    in_layers = sum(inputs * outputs for inputs, outputs in shape.linears)
    if config.scorer.sharding.method != "none":
        num_ranks = config.scorer.sharding.ranks_per_replica or job.num_gpus
        why = f"{size} B × ({short(count - in_layers)} + {short(in_layers)} / {num_ranks} GPUs)"
        return Term("generator", size * (count - in_layers + -(-in_layers // num_ranks)), why)
    if config.generator.quantization == "int8":
        why = f"{size} B × {short(count - in_layers)} + 1 B × {short(in_layers)} weights"
        return Term("generator, whole", size * (count - in_layers) + in_layers, why)
    return Term("generator, whole", size * count, times((size, "B"), (count, "weights")))


def _reinforcement(job: Job) -> list[Phase]:
    training = job.reinforcement
    states = kept_states(training, "policy")
    if job.shares_weights:
        # The base is there once, as the generator.
        base = training.frozen_bytes * job.policy.num_weights
        first = states[0]
        why = f"{first.arithmetic}, the latter in the generator"
        states[0] = Term(first.name, first.num_bytes - base, why)
    critic = [] if job.is_grpo else ppo.critic_states(job)
    # In a pool the generator takes nothing here, nor does what it scores.
    is_pooled = job.config.scorer.kind == "ray"
    generator = [] if is_pooled else [_generator(job)]
    stays = Phase("reinforcement", (*generator, *states, *critic, *_reference(job, training)))
    rollouts, update = (grpo.rollouts, grpo.update) if job.is_grpo else (ppo.rollouts, ppo.update)
    asleep = grpo.vllm(job, asleep=True)
    return [
        stays,
        Phase("rollouts", tuple(rollouts(job)), stays),
        *([] if is_pooled else [Phase("scoring", (*asleep, *_scoring(job)), stays)]),
        Phase("update", (*asleep, *update(job)), stays),
    ]


def _reference(job: Job, training: Training) -> list[Term]:
    """The model that the KL penalty compares with; adapters are switched off instead."""
    if job.config.trainer.beta == 0 or training.frozen:
        return []
    count = job.policy.num_weights
    if training.zero_stage == 3:
        share = training.share(training.learned) + training.persistent
        why = times((training.cast_bytes, "B"), (count, "weights")) + f" / {job.num_gpus} GPUs"
        return [Term("reference for the KL penalty", training.cast_bytes * share, why)]
    size = training.cast_bytes if training.zero_stage else training.learned_bytes
    why = times((size, "B"), (count, "weights"))
    return [Term("reference for the KL penalty", size * count, why)]


def _scoring(job: Job) -> list[Term]:
    """A batch holds at least the longest request, and the first call reads a context at once."""
    config = job.config
    plan_tokens = config.generator.max_plan_tokens or config.trainer.max_completion_length
    budget = config.scorer.max_tokens_per_batch or MOST_SCORED_TOKENS
    num_tokens = max(budget, job.context_tokens, plan_tokens + job.chapter_tokens)
    return scoring(
        job.generator,
        num_tokens,
        job.context_tokens,
        config.scorer.positions_per_chunk,
        BYTES[config.generator.model.dtype],
    )


def _supervised(job: Job, name: str, settings: Any, shape: Shape) -> Phase:
    """A stage that trains an fp32 copy of a whole model on rows of context and chapter."""
    training = replace(
        job.reinforcement,
        learned=shape.weights,
        frozen=(),
        learned_bytes=4,
        hidden=shape.hidden,
        bf16=settings.bf16,
    )
    precision = precision_of(training)
    batch = Batch(settings.batch_size, job.context_tokens + job.chapter_tokens)
    terms = (
        *kept_states(training, "model"),
        *live_weights(training, "model"),
        *activations(shape, batch, precision, settings.gradient_checkpointing),
        whole_logits(shape, batch, precision),
    )
    return Phase(name, terms)


def _evaluation(job: Job) -> Phase:
    """The generator, the agents side by side, the SFT baseline, and one batch of answers."""
    config = job.config
    dtype = "bfloat16" if config.trainer.bf16 else job.policy_model.dtype
    size, count = BYTES[dtype], job.policy.num_weights
    agents = Term(
        "two agents", 2 * size * count, times((2, "agents"), (size, "B"), (count, "weights"))
    )
    models = [_generator(job), agents]
    if config.sft_baseline is not None:
        models.append(replace(_generator(job), name="SFT baseline"))
    answers = generation(
        job.policy,
        Batch(config.evaluation.batch_size, job.context_tokens),
        config.sampling.max_new_tokens,
        "bfloat16" if dtype == "bfloat16" else "float32",
        job.policy_model.attn_implementation,
    )
    return Phase("evaluation", (*models, *answers))
