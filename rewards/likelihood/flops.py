"""What scoring costs in floating point operations, from a model's sizes and lengths in tokens.

A multiplication and an addition are two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that its floating point operations follow from."""

    body_weights: int
    """Weights of the layers that one token is multiplied with: without embeddings and head, and of
    the experts of a mixture only as many as a token visits."""
    num_full_attention_layers: int
    num_sliding_attention_layers: int
    sliding_window: int
    """Keys that a token of a sliding layer sees at most."""
    attention_size: int
    """Number of query heads times the size of a head."""
    hidden_size: int
    vocab_size: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> ModelShape:
        """Read off the model; one on the `meta` device will do."""
        config = model.config.get_text_config()
        window = getattr(config, "sliding_window", None) or 0
        default = "sliding_attention" if window else "full_attention"
        layers = getattr(config, "layer_types", None) or [default] * config.num_hidden_layers
        return cls(
            _body_weights(model),
            layers.count("full_attention"),
            layers.count("sliding_attention"),
            window,
            _attention_size(config),
            config.hidden_size,
            config.vocab_size,
        )

    def body_flops(self, num_tokens: int, num_before: int = 0) -> int:
        """Operations of the layers on so many tokens of one row, `num_before` of it behind them.

        Products with weights, and attention over the keys that each token sees.
        """
        full = _keys_seen(num_before, num_tokens, num_before + num_tokens)
        sliding = _keys_seen(num_before, num_tokens, self.sliding_window)
        keys = self.num_full_attention_layers * full + self.num_sliding_attention_layers * sliding
        # Attention has two products: queries with keys, and weights with values.
        return 2 * self.body_weights * num_tokens + 2 * 2 * self.attention_size * keys

    def head_flops(self, num_positions: int) -> int:
        """Operations from hidden states to logits."""
        return 2 * self.hidden_size * self.vocab_size * num_positions


@dataclass(frozen=True)
class GroupCost:
    """Floating point operations of requests that share a prefix.

    Members cost the same together as apart; only the prefix is saved by keeping them together.
    """

    prefix: int
    members: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.prefix + sum(self.members)


def group_flops(
    prefix_len: int, suffix_lens: Sequence[int], gold_lens: Sequence[int], shape: ModelShape
) -> GroupCost:
    """Floating point operations of scoring a group whose prefix goes through the model once.

    Each suffix ends in its gold tokens, and only they pass the head.
    """
    return GroupCost(
        shape.body_flops(prefix_len),
        tuple(
            shape.body_flops(suffix, prefix_len) + shape.head_flops(gold)
            for suffix, gold in zip(suffix_lens, gold_lens, strict=True)
        ),
    )


def _keys_seen(start: int, num_tokens: int, window: int) -> int:
    """Keys that `num_tokens` tokens see in all, the first of them with `start` before it."""
    # Token t, counted from 1, sees min(t, window) keys.
    growing = max(0, min(start + num_tokens, window) - start)
    return growing * start + growing * (growing + 1) // 2 + (num_tokens - growing) * window


def _attention_size(config: PretrainedConfig) -> int:
    """Query heads times the size of a head; 0 where a config has no one number for all layers.

    Then attention, which is small beside the weights' products, is left out.
    """
    try:
        num_heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    # What a config without such a field raises, and one whose layers differ in it.
    except (AttributeError, RuntimeError):
        return 0
    return num_heads * head_size


def _body_weights(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    num_experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", 0)
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    total = 0
    for name, weight in model.base_model.named_parameters():
        if weight.ndim < 2 or id(weight) in embeddings:
            continue
        is_expert = num_experts and ".experts." in name
        total += weight.numel() * (config.num_experts_per_tok / num_experts if is_expert else 1)
    return round(total)
