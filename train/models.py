"""Loading models and tokenizers: a folder or Hub id, safetensors only, no remote code."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from train.schema import ModelConfig

ASSETS = Path(__file__).resolve().parent / "assets"


def load_model(config: ModelConfig, key: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer; `key` is the setting that names them, for messages.

    Raises:
        ValueError: there is no such model, or it is not in safetensors.
    """
    assert config.path is not None
    path = resolve_path(config.path)
    options = {"revision": config.revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            attn_implementation=config.attn_implementation,
            **options,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{key}.path: no usable model at {config.path!r} ({reason}); give a folder with "
            "config.json, tokenizer and *.safetensors, or a Hub id that can be reached"
        ) from error
    check_tokenizer(model, tokenizer, key)
    return model, tokenizer


def resolve_path(path: str) -> str:
    """`assets/<name>` names a model that ships with the package."""
    return str(ASSETS / path.removeprefix("assets/")) if path.startswith("assets/") else path


def check_tokenizer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: str = "model"
) -> None:
    """Refuses a tokenizer whose ids the model has no embedding for; sets a missing padding token."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(
            f"{key}: the tokenizer has {len(tokenizer)} tokens, the model only {rows}; "
            "they do not belong together"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A folder that plain `from_pretrained` loads."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
