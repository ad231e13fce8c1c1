"""A policy of low-rank adapters, on weights that may be the generator's as well."""

from __future__ import annotations

from peft import LoraConfig as PeftLoraConfig

from train.models import model_digest
from train.schema import LoraConfig, ModelConfig, RunConfig
from train.settings.grpo import GrpoSettings


def peft_config(lora: LoraConfig | None) -> PeftLoraConfig | None:
    """The adapters in peft's terms; None where every weight learns."""
    if lora is None:
        return None
    return PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def shares_weights(config: RunConfig, generator: ModelConfig, start: ModelConfig) -> bool:
    """Whether the policy, which begins at `start`, can be adapters on the loaded generator.

    It can where adapters are all that learns and both are the same weights in the same precision.
    It must not where those weights are spread out or changed: by DeepSpeed, which casts or cuts
    them, by a sharded or quantized generator, or by rollouts with vLLM, which merge the adapters
    into them and take them out again.
    """
    return (
        config.policy.lora is not None
        and config.distributed.zero_stage == 0
        and config.scorer.sharding.method == "none"
        and config.scorer.kind != "ray"
        and config.generator.quantization is None
        and not (isinstance(config.trainer, GrpoSettings) and config.trainer.uses_vllm)
        and model_digest(generator) == model_digest(start)
    )
