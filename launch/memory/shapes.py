"""The sizes of a model that memory follows from, read off its transformers config.

No weight is loaded: the model is built without storage. The models that our configs name are known
here, so that planning them asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Source: the config.json of each model on the Hugging Face Hub.
_QWEN2 = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "max_position_embeddings": 32_768}
KNOWN: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2.5-3B-Instruct": {
        **_QWEN2,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-7B-Instruct-1M": {
        **_QWEN2,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. `weights` are the numbers of elements of its parameter tensors, tied ones
    once; `trunk` the same without the language head's own; `linears` the (inputs, outputs) of its
    linear layers but the head."""

    weights: tuple[int, ...]
    trunk: tuple[int, ...]
    linears: tuple[tuple[int, int], ...]
    num_layers: int
    hidden: int
    intermediate: int
    query_size: int
    """Number of query heads times the size of a head."""
    key_size: int
    """The same for the heads of keys, and of values."""
    num_heads: int
    vocab: int
    longest: int
    """Positions that the model was made for."""
    source: str

    @property
    def num_weights(self) -> int:
        return sum(self.weights)

    def lora_weights(self, rank: int) -> tuple[int, ...]:
        """Elements of the adapters on all linear layers: A is rank × inputs, B outputs × rank."""
        return tuple(n for inputs, outputs in self.linears for n in (rank * inputs, outputs * rank))

    def cache_bytes_per_token(self, bytes_per_key: int, bytes_per_value: int) -> int:
        """Keys and values of one token in all layers."""
        return self.num_layers * self.key_size * (bytes_per_key + bytes_per_value)


def shape_of(model: Any, key: str) -> Shape:
    """The shape of the model that a `ModelConfig` names; `key` is where it stands, for messages.

    Raises:
        ValueError: there is no config to read and the model is not a known one.
    """
    from transformers import AutoConfig

    from train.models import resolve_path

    if model.path is None:
        fields = {"vocab_size": model.vocab_size, **model.architecture}
        return from_config(_config(fields), "its architecture in the settings")
    if model.path in KNOWN:
        return from_config(_config(KNOWN[model.path]), f"known sizes of {model.path}")
    try:
        config = AutoConfig.from_pretrained(
            resolve_path(model.path), revision=model.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{key}.path: no config of {model.path!r} can be read, so its size is unknown; give a "
            f"folder with its config.json, or one of {', '.join(KNOWN)}"
        ) from error
    return from_config(config, f"config.json of {model.path}")


def from_config(config: Any, source: str) -> Shape:
    """Built on the `meta` device, where tensors have sizes and no content."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        weights=tuple(parameter.numel() for parameter in model.parameters()),
        trunk=tuple(parameter.numel() for parameter in model.base_model.parameters()),
        linears=tuple((m.in_features, m.out_features) for m in linears),
        num_layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        query_size=text.num_attention_heads * head_size,
        key_size=text.num_key_value_heads * head_size,
        num_heads=text.num_attention_heads,
        vocab=text.vocab_size,
        longest=text.max_position_embeddings,
        source=source,
    )


def _config(fields: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    rest = {name: value for name, value in fields.items() if name != "model_type"}
    return AutoConfig.for_model(fields["model_type"], **rest)
