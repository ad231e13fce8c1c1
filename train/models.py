"""Loading models and tokenizers: a folder or Hub id, safetensors only, no remote code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from train import ranks, zero
from train.cache import digest
from train.schema import ModelConfig

ADAPTER_WEIGHTS = "adapter_model.safetensors"
# The folder, in that of a policy or a checkpoint, of adapters by role.
VOICES = "roles"
ASSETS = Path(__file__).resolve().parent / "assets"


def load_model(
    config: ModelConfig, key: str, **how: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer; `key` is the setting that names them, for messages.

    `how` says how the weights are to lie in memory, in `from_pretrained`'s terms.

    Raises:
        ValueError: there is no such model, or it is not in safetensors.
    """
    assert config.path is not None
    if config.adapter is not None and how:
        raise ValueError(
            f"{key}.adapter: adapters are merged into whole weights; leave out sharding and "
            "quantization, or name a model into which they are merged already"
        )
    path = resolve_path(config.path)
    options = {"revision": config.revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        with zero.whole():
            model = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                attn_implementation=config.attn_implementation,
                **options,
                **how,
            )
    except (OSError, ValueError) as error:
        raise _no_model(config, key, error) from error
    check_tokenizer(model, tokenizer, key)
    if by_role := voice_folders(config.adapter or path):
        return _with_voices(model, by_role, key), tokenizer
    return (model if config.adapter is None else _merged(model, config.adapter, key)), tokenizer


def load_tokenizer(path: str, key: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in a folder or on the Hub; `key` is the setting that names it.

    Raises:
        ValueError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(resolve_path(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{key}: no tokenizer at {path!r} ({reason}); give a folder with tokenizer.json, or a "
            "Hub id that can be reached"
        ) from error


def voice_folders(folder: str | Path) -> dict[str, Path]:
    """The folders of adapters by role in a model's or a checkpoint's folder; empty for none."""
    found = sorted(Path(folder).glob(f"{VOICES}/*/adapter_config.json"))
    return {path.parent.name: path.parent for path in found}


def _with_voices(model: PreTrainedModel, folders: Mapping[str, Path], key: str) -> PreTrainedModel:
    """The model with adapters by role, which are not merged: each role speaks with its own."""
    (first, *others) = folders
    try:
        adapted = PeftModel.from_pretrained(model, adapter_folder(str(folders[first])), first)
        for role in others:
            adapted.load_adapter(adapter_folder(str(folders[role])), role)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{key}: the adapters by role in {folders[first].parent} do not go on this model "
            f"({reason}); name the model that they were made for"
        ) from error
    return cast(PreTrainedModel, adapted.eval())


def _merged(model: PreTrainedModel, adapter: str, key: str) -> PreTrainedModel:
    """The model with the adapters in its weights."""
    try:
        adapted = PeftModel.from_pretrained(model, adapter_folder(adapter))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{key}.adapter: {adapter!r} does not go on this model ({reason}); give a folder with "
            f"adapter_config.json and {ADAPTER_WEIGHTS} that were made for it"
        ) from error
    return cast(PreTrainedModel, cast(Any, adapted).merge_and_unload(safe_merge=True))


def adapter_folder(adapter: str) -> str:
    """The folder of adapters, brought from the Hub if need be; other weights than safetensors are
    not loaded, as peft would do.
    """
    folder = Path(adapter)
    if not folder.is_dir():
        wanted = ["adapter_config.json", ADAPTER_WEIGHTS]
        folder = Path(snapshot_download(adapter, allow_patterns=wanted))
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise FileNotFoundError(f"there is no {ADAPTER_WEIGHTS}")
    return str(folder)


def check_model(config: ModelConfig, key: str) -> None:
    """Refuses, before any work is done, a model that is not there or that no recipe makes.

    Raises:
        ValueError: the path holds no model, there is neither a path nor an architecture, or the
            tokenizer of a random start is none.
    """
    if config.path is None:
        if not config.architecture.get("model_type"):
            raise ValueError(
                f"{key}: names no model; give {key}.path, or {key}.architecture with a model_type"
            )
        if config.tokenizer is not None:
            load_tokenizer(config.tokenizer, f"{key}.tokenizer")
        return
    if config.tokenizer is not None:
        raise ValueError(
            f"{key}.tokenizer: the model at {key}.path has its own; take it out, or leave the path "
            "empty for a random start"
        )
    try:
        AutoConfig.from_pretrained(
            resolve_path(config.path), revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _no_model(config, key, error) from error


def _no_model(config: ModelConfig, key: str, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0]
    return ValueError(
        f"{key}.path: no usable model at {config.path!r} ({reason}); give a folder with "
        "config.json, tokenizer and *.safetensors, or a Hub id that can be reached"
    )


def resolve_path(path: str) -> str:
    """`assets/<name>` names a model that ships with the package."""
    return str(ASSETS / path.removeprefix("assets/")) if path.startswith("assets/") else path


def check_tokenizer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: str = "model"
) -> None:
    """Refuses a tokenizer that does not belong to the model; sets a missing padding token.

    Raises:
        ValueError: it has ids that the model cannot embed, or what the model takes for the
            beginning or the end of a text is an ordinary token of it.
    """
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(
            f"{key}: the tokenizer has {len(tokenizer)} tokens, the model only {rows}; "
            "they do not belong together"
        )
    for name in ("bos", "eos"):
        own = getattr(tokenizer, f"{name}_token_id")
        expected = _marker_ids(model, f"{name}_token_id")
        # Models tuned on instructions end a turn by another token than their base ends a text, and
        # only some of their configs say so: any special token will do.
        if own is not None and expected and not expected & {own, *_special_ids(tokenizer)}:
            raise ValueError(
                f"{key}: the model's {name} token has the id {min(expected)}, the tokenizer's "
                f"{own}, and the former is none of its special tokens; they do not belong together"
            )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _marker_ids(model: PreTrainedModel, name: str) -> set[int]:
    """The ids that the model's configs give to a special token, of which there may be several."""
    found: set[int] = set()
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        ids = getattr(config, name, None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    # A default of the family's that was left in the config of a smaller vocabulary says nothing.
    return {i for i in found if 0 <= i < model.config.get_text_config().vocab_size}


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A folder that plain `from_pretrained` loads. Of several processes the main one writes it."""
    if ranks.is_main():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def model_digest(model: ModelConfig) -> str:
    """What identifies a model as loaded: its weights' content if small, else where it is from."""
    files = _weight_files(model.path) + _weight_files(model.adapter)
    if not files or sum(f.stat().st_size for f in files) > 1_000_000_000:
        stamps = [(_place(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        # What nobody set says nothing, so that a new setting changes no digest.
        told = {name: value for name, value in asdict(model).items() if value is not None}
        return digest({"model": told, "files": stamps})
    content = hashlib.sha256()
    for file in files:
        content.update(_place(file).encode() + file.read_bytes())
    return digest(
        {
            "content": content.hexdigest(),
            "dtype": model.dtype,
            "attn_implementation": model.attn_implementation,
        }
    )


def _weight_files(path: str | None) -> list[Path]:
    """What a folder's model is loaded from; none of a Hub id, which is known by its name."""
    if path is None:
        return []
    folder = Path(resolve_path(path))
    kinds = ("*.safetensors", "*.json", f"{VOICES}/*/*.safetensors", f"{VOICES}/*/*.json")
    return [path for kind in kinds for path in sorted(folder.glob(kind))]


def _place(file: Path) -> str:
    """The file's name, and of adapters by role whose they are."""
    is_voice = file.parent.parent.name == VOICES
    return f"{file.parent.name}/{file.name}" if is_voice else file.name
