"""Fixtures for scoring: random requests, and every decoder family in tiny."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rewards.types import ScoreRequest

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

# Attention whose keys and values are made of a smaller latent.
_LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}

# Windows of 24 tokens, shorter than the prefixes that the tests use; weights that are large enough
# for every position to count (a window one token too wide costs a hundredth of a nat and more).
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8, **_EXPERTS},
    "mistral": {"sliding_window": 24},
    "gemma2": {
        "head_dim": 8,
        "sliding_window": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 2.0,
    },
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt2": {"n_positions": 1024},
    "gpt_neox": {},
    "phi3": {},
    "olmo2": {},
    "granite": {"logits_scaling": 0.5},
    "cohere2": {"sliding_window": 24, "logit_scale": 1.0},
    "gpt_oss": {
        "head_dim": 8,
        "sliding_window": 24,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "llama4_text": {
        "head_dim": 8,
        "attention_chunk_size": 24,
        "num_local_experts": 2,
        "intermediate_size_mlp": 64,
    },
    "bloom": {"n_head": 4, "n_layer": 2},
    "lfm2": {
        "layer_types": ["conv", "full_attention"],
        "conv_L_cache": 4,
        "block_auto_adjust_ff_dim": False,
    },
    "qwen3_next": {
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 32,
        **_EXPERTS,
    },
    "falcon_h1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
    },
    "jamba": {
        "num_experts": 2,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
    "doge": {"keep_window_size": 128},
    # Experts, and attention that chooses 128 tokens to attend to.
    "deepseek_v32": {**_LATENT, "index_topk": 128, "index_n_heads": 4, "index_head_dim": 16},
    "deepseek_v3": {**_LATENT, "v_head_dim": 4},
}

FAMILIES = tuple(_FAMILIES)


@pytest.fixture(scope="session")
def make_family(
    make_model: Callable[..., PreTrainedModel],
) -> Callable[..., PreTrainedModel]:
    """Makes a tiny model of a decoder family, by name, with what makes the family special."""

    def make(family: str, **fields: Any) -> PreTrainedModel:
        return make_model(family, **{"initializer_range": 0.2} | _FAMILIES[family] | fields)

    return make


@pytest.fixture(scope="session")
def families() -> dict[str, dict[str, Any]]:
    return _FAMILIES


@pytest.fixture(scope="session")
def make_request() -> Callable[..., ScoreRequest]:
    """Makes a request of random tokens: so many before the guidance, in it, and in the chapter.

    Requests of one `episode` and length of prefix share the prefix; all else is of the `seed`.
    """
    from rewards.types import ScoreRequest

    def make(
        prefix: int, guidance: int, gold: int, seed: int = 0, episode: int = 0
    ) -> ScoreRequest:
        of_episode, own = random.Random(f"{prefix}/{episode}"), random.Random(f"{episode}/{seed}")
        return ScoreRequest(
            f"book/{episode}",
            tuple(of_episode.randrange(5, 300) for _ in range(prefix)),
            tuple(own.randrange(5, 300) for _ in range(guidance)),
            tuple(own.randrange(5, 300) for _ in range(gold)),
        )

    return make
