"""What samplers need, checked before any work is done: TRL would tell after the warm start."""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig

from train.models import resolve_path
from train.schema import ModelConfig, RunConfig
from train.settings.grpo import GrpoSettings

# Layers whose state is keys and values, which transformers' continuous batching keeps in pages.
PAGED_LAYERS = {"full_attention", "sliding_attention"}
_OTHERS = "take trainer.sampler=transformers, which goes everywhere"


def check_vllm(settings: GrpoSettings, has_vllm: bool, has_gpu: bool, processes: int) -> None:
    """Refuses vLLM where it cannot run.

    Raises:
        ValueError: it is not installed, or lacks a GPU, or its ranks do not divide the processes.
    """
    if not settings.uses_vllm:
        return
    if not has_vllm:
        raise ValueError(
            f"trainer.sampler: {settings.sampler} needs vLLM, which is not installed; install "
            f"trl[vllm], or {_OTHERS}"
        )
    if not has_gpu:
        raise ValueError(
            f"trainer.sampler: {settings.sampler} needs a GPU in every process of the training, "
            f"and there is none here; {_OTHERS}"
        )
    ranks_per_engine = settings.trl.get("vllm_tensor_parallel_size", 1)
    if settings.sampler == "vllm_colocate" and processes % ranks_per_engine:
        raise ValueError(
            f"trainer.trl.vllm_tensor_parallel_size: {ranks_per_engine} does not divide the "
            f"{processes} processes that vLLM runs in; choose a divisor of {processes}"
        )


def check_continuous_batching(config: RunConfig) -> None:
    """Refuses transformers' continuous batching where it fails or costs the policy its precision.

    Raises:
        ValueError: the policy has layers without keys and values, or would be cast for good.
    """
    settings = config.trainer
    if not isinstance(settings, GrpoSettings) or settings.sampler != "continuous_batching":
        return
    policy = config.policy.model or config.generator.model
    layers = set(getattr(_architecture(policy).get_text_config(), "layer_types", None) or ())
    if other := sorted(layers - PAGED_LAYERS):
        raise ValueError(
            "trainer.sampler: continuous_batching keeps keys and values in pages, and the policy "
            f"has layers without them ({', '.join(other)}); {_OTHERS}"
        )
    is_fp32 = policy.dtype == "float32" or config.policy.lora is not None
    if settings.bf16 and is_fp32 and config.distributed.zero_stage == 0:
        # DeepSpeed's copies to step on stay in fp32.
        raise ValueError(
            "trainer.sampler: with trainer.bf16, TRL casts the weights to bfloat16 for "
            "continuous_batching and leaves them so, where small steps are lost; take "
            "distributed=zero2, or trainer.sampler=transformers"
        )


def _architecture(model: ModelConfig) -> PreTrainedConfig:
    if model.path is None:
        fields = {name: value for name, value in model.architecture.items() if name != "model_type"}
        return AutoConfig.for_model(model.architecture["model_type"], **fields)
    return AutoConfig.from_pretrained(
        resolve_path(model.path), revision=model.revision, trust_remote_code=False
    )
