"""A run's phases, and what lies on one GPU in each: from its settings and its models' shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from launch.memory.activations import (
    Batch,
    Precision,
    activations,
    attention_mask,
    fused_head,
    generation,
    scoring,
    whole_logits,
)
from launch.memory.shapes import Shape
from launch.memory.states import Training, kept_states, live_weights, whole_weights
from launch.memory.terms import BYTES, GB, Phase, Term, short, times

# What a chapter is taken to have where `generator.max_gold_tokens` does not limit it.
CHAPTER_TOKENS = 4_096
# What the scorer takes where `scorer.max_tokens_per_batch` leaves it to the free memory.
MOST_SCORED_TOKENS = 65_536


@dataclass(frozen=True)
class Job:
    """A run's settings (a `RunConfig`), and the shapes of the models that they name."""

    config: Any
    policy: Shape
    generator: Shape

    @property
    def num_gpus(self) -> int:
        return self.config.hardware.num_gpus

    @property
    def policy_model(self) -> Any:
        return self.config.policy.model or self.config.generator.model

    @property
    def context_tokens(self) -> int:
        return self.config.generator.max_context_tokens or self.policy.longest

    @property
    def chapter_tokens(self) -> int:
        return self.config.generator.max_gold_tokens or CHAPTER_TOKENS

    @property
    def shares_weights(self) -> bool:
        """Whether the adapters stand on the generator's own weights."""
        config = self.config
        return (
            config.policy.lora is not None
            and config.distributed.zero_stage == 0
            and config.scorer.sharding.method == "none"
            and config.generator.quantization is None
            and not _uses_vllm(config.trainer)
            and config.warm_start is None
            and config.policy.model in (None, config.generator.model)
        )

    @property
    def rollouts_at_once(self) -> int:
        """Answers that one process samples together."""
        from train.settings.grpo import steps_per_generation

        trainer = self.config.trainer
        return trainer.per_device_batch_size * steps_per_generation(trainer, self.num_gpus)

    @property
    def reinforcement(self) -> Training:
        config = self.config
        weight_bytes = BYTES[self.policy_model.dtype]
        lora = config.policy.lora
        learned = self.policy.weights if lora is None else self.policy.lora_weights(lora.r)
        return Training(
            learned=learned,
            frozen=() if lora is None else self.policy.weights,
            # peft makes adapters in fp32.
            learned_bytes=weight_bytes if lora is None else 4,
            frozen_bytes=weight_bytes,
            hidden=self.policy.hidden,
            bf16=config.trainer.bf16,
            zero_stage=config.distributed.zero_stage,
            num_gpus=self.num_gpus,
            offload_optimizer=config.distributed.offload_optimizer,
        )


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


def _uses_vllm(trainer: Any) -> bool:
    return trainer.sampler.startswith("vllm")


def _reinforcement(job: Job) -> list[Phase]:
    config, training = job.config, job.reinforcement
    states = kept_states(training, "policy")
    if job.shares_weights:
        # The base is there once, as the generator.
        base = training.frozen_bytes * job.policy.num_weights
        first = states[0]
        why = f"{first.arithmetic}, the latter in the generator"
        states[0] = Term(first.name, first.num_bytes - base, why)
    kept = (_generator(job), *states, *_reference(job, training))
    precision = _precision(training)
    kernel = job.policy_model.attn_implementation
    prompts = Batch(job.rollouts_at_once, job.context_tokens)
    batch = Batch(
        config.trainer.per_device_batch_size,
        job.context_tokens + config.trainer.max_completion_length,
    )
    rollouts = _vllm(job) or [
        *whole_weights(training, "policy"),
        *generation(job.policy, prompts, config.trainer.max_completion_length, precision, kernel),
    ]
    update = [
        *live_weights(training, "policy"),
        *activations(job.policy, batch, precision, config.trainer.gradient_checkpointing),
        fused_head(job.policy, batch, precision, config.policy.lora is None),
        attention_mask(
            batch, kernel, 1 if config.trainer.gradient_checkpointing else job.policy.num_layers
        ),
    ]
    stays = Phase("reinforcement", kept)
    return [
        stays,
        Phase("rollouts", tuple(rollouts), stays),
        Phase("scoring", (*_vllm(job, asleep=True), *_scoring(job)), stays),
        Phase("update", (*_vllm(job, asleep=True), *update), stays),
    ]


def _precision(training: Training) -> Precision:
    if training.zero_stage:
        return "bfloat16" if training.bf16 else "float32"
    base = training.frozen_bytes if training.frozen else training.learned_bytes
    if base == 2:
        return "bfloat16"
    return "autocast" if training.bf16 else "float32"


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


def _vllm(job: Job, asleep: bool = False) -> list[Term]:
    """What an engine in the same process reserves; `asleep` where it may have given that back."""
    trainer = job.config.trainer
    options: Mapping[str, Any] = trainer.trl
    if not _uses_vllm(trainer):
        return []
    if trainer.sampler == "vllm_server":
        return [Term("vLLM", 0, "on a server of its own")]
    if asleep and options.get("vllm_enable_sleep_mode"):
        return [Term("vLLM", 0, "asleep")]
    share = options.get("vllm_gpu_memory_utilization", 0.3)
    size = int(share * job.config.hardware.gpu_memory_gb * GB)
    return [Term("vLLM", size, f"{share:.0%} of the GPU, with its own weights")]


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
    precision = _precision(training)
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
