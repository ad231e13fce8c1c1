"""A policy of low-rank adapters on weights that may be the generator's as well."""

from __future__ import annotations

import tempfile

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel
from transformers import PreTrainedModel

from train.grpo import GrpoSettings
from train.models import load_model, model_digest
from train.schema import LoraConfig, ModelConfig, RunConfig


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
    It must not where something else would change or spread out those weights: rollouts by vLLM
    merge the adapters into them and take them out again, which rounds; DeepSpeed casts them, and
    ZeRO-3 cuts them up.
    """
    return (
        config.policy.lora is not None
        and config.distributed.zero_stage == 0
        and config.scorer.sharding.method == "none"
        and config.generator.quantization is None
        and not (isinstance(config.trainer, GrpoSettings) and config.trainer.uses_vllm)
        and model_digest(generator) == model_digest(start)
    )


def merged(policy: PeftModel, start: ModelConfig) -> PreTrainedModel:
    """The policy as plain weights of its own; the weights below it are left without adapters.

    `start` says where those weights came from: the sum is made in a fresh copy, since others may
    still read the first one.
    """
    with tempfile.TemporaryDirectory() as folder:
        policy.save_pretrained(folder)
        policy.unload()
        fresh, _ = load_model(start, "policy.model")
        return PeftModel.from_pretrained(fresh, folder).merge_and_unload()
