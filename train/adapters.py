"""A policy of low-rank adapters, on weights that may be the generator's as well."""

from __future__ import annotations

from peft import LoraConfig as PeftLoraConfig

from envs.collaboration.collaboration import Collaboration
from envs.types import Env
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


def trained_roles(config: RunConfig, env: Env) -> tuple[str, ...]:
    """The roles that get adapters of their own, sorted; none where all share what is learned."""
    lora = config.policy.lora
    if lora is None or not lora.per_role:
        return ()
    assert isinstance(env, Collaboration), "checked before"
    return tuple(sorted(role for role in env.most_turns if env.cast.is_trained(role)))


def check_role_adapters(config: RunConfig, env: Env) -> None:
    """Refuses adapters by role where they would learn from other roles' answers, or not at all.

    Raises:
        ValueError: the env has one role, or something else would put rows through other adapters.
    """
    if config.policy.lora is None or not config.policy.lora.per_role:
        return
    key = "policy.lora.per_role"
    if not isinstance(env, Collaboration):
        raise ValueError(
            f"{key}: is for envs with several roles; set it to false, or choose an env"
        )
    if isinstance(config.trainer, GrpoSettings) and config.trainer.sampler != "transformers":
        raise ValueError(
            f"{key}: trainer.sampler={config.trainer.sampler} answers with one set of adapters in "
            "all roles; take trainer.sampler=transformers, or set it to false"
        )
    if config.trainer.gradient_checkpointing:
        raise ValueError(
            f"{key}: with trainer.gradient_checkpointing layers are computed again when another "
            "role's adapters may be on; set one of the two to false"
        )
    if config.distributed.zero_stage:
        raise ValueError(
            f"{key}: under DeepSpeed all weights have a gradient in every step, and a role that "
            "was not heard has none; take distributed=none"
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
