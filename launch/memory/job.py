"""A run as the plan sees it: its settings, and the shapes of its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launch.memory.activations import Batch, Precision
from launch.memory.shapes import Shape
from launch.memory.states import Training
from launch.memory.terms import BYTES

# What a chapter is taken to have where `generator.max_gold_tokens` does not limit it.
CHAPTER_TOKENS = 4_096


@dataclass(frozen=True)
class Job:
    """A run's settings (a `RunConfig`), and the shapes of the models that they name.

    `num_voices` is how many sets of adapters the policy has: one, or one for each role that learns.
    Where `has_turns`, the answers of a turn are sampled one batch after the other.
    """

    config: Any
    policy: Shape
    generator: Shape
    num_voices: int = 1
    has_turns: bool = False

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
            and config.scorer.kind != "ray"
            and config.generator.quantization is None
            and not self.uses_vllm
            and config.warm_start is None
            and config.policy.model in (None, config.generator.model)
        )

    @property
    def uses_vllm(self) -> bool:
        return self.is_grpo and self.config.trainer.uses_vllm

    @property
    def is_grpo(self) -> bool:
        return self.config.trainer.algorithm == "grpo"

    @property
    def reinforcement(self) -> Training:
        config = self.config
        weight_bytes = BYTES[self.policy_model.dtype]
        lora = config.policy.lora
        adapters = () if lora is None else self.policy.lora_weights(lora.r) * self.num_voices
        return Training(
            learned=self.policy.weights if lora is None else adapters,
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

    @property
    def attempts(self) -> Batch:
        """Answers with their prompts that one pass of the update takes."""
        trainer = self.config.trainer
        num_tokens = self.context_tokens + trainer.max_completion_length
        return Batch(trainer.per_device_batch_size, num_tokens)


def precision_of(training: Training) -> Precision:
    """What its passes are in."""
    if training.zero_stage:
        return "bfloat16" if training.bf16 else "float32"
    base = training.frozen_bytes if training.frozen else training.learned_bytes
    if base == 2:
        return "bfloat16"
    return "autocast" if training.bf16 else "float32"
