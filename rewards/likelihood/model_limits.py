"""What a model can read at all, by its config."""

from __future__ import annotations

from transformers import PretrainedConfig


def context_window(config: PretrainedConfig) -> int | None:
    """The most tokens that a model of this config reads at once; None where it names no limit."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    # A few families write a number below 1 for no limit.
    return longest if longest is not None and longest > 0 else None


def vocabulary_size(config: PretrainedConfig) -> int | None:
    """How many token ids a model of this config embeds; None where it does not say."""
    return getattr(config.get_text_config(), "vocab_size", None)
