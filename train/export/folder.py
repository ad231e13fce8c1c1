"""A folder for `from_pretrained` or the Hub: weights, tokenizer and card, no trainer's state."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from train.export.card import base_settings, model_card
from train.files import sync_tree, write_json, write_text
from train.manifest import check_whole
from train.models import ADAPTER_WEIGHTS, VOICES, voice_folders
from train.run_folder import RunFolder

# Of a checkpoint, what belongs to the model; pickled states of a trainer do not.
MODEL_FILES = (
    *("config.json", "generation_config.json", "model*.safetensors"),
    *("model.safetensors.index.json", "adapter_config.json", "adapter_model.safetensors"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("chat_template*",),
)


def export(source: Path, trained: RunFolder, target: Path) -> Path:
    """Makes `target` out of the model in `source`, whole or not at all.

    Raises:
        ValueError: there is something in `target`, or no weights in `source`.
    """
    check_whole(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"to: {target} is not empty; name a new folder")
    files = [f for f in sorted(source.iterdir()) if any(fnmatch(f.name, p) for p in MODEL_FILES)]
    by_role = voice_folders(source)
    if not by_role and not any(file.suffix == ".safetensors" for file in files):
        raise ValueError(f"{source}: holds no weights in safetensors; name a checkpoint=...")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for file in files:
            shutil.copy(file, temporary)
        for role, folder in by_role.items():
            (temporary / VOICES / role).mkdir(parents=True)
            for file in (folder / "adapter_config.json", folder / ADAPTER_WEIGHTS):
                shutil.copy(file, temporary / VOICES / role)
        _pin_base(temporary / "adapter_config.json", trained)
        write_text(temporary / "README.md", model_card(temporary, source, trained))
        sync_tree(temporary)
        temporary.chmod(0o755)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _pin_base(adapter: Path, trained: RunFolder) -> None:
    """Names, in the adapters' config, the revision of the base model that they were trained on.

    peft does not write it there itself, and on another revision they would do something else.
    """
    base = base_settings(trained.load_config())
    if not adapter.is_file() or not base.get("revision"):
        return
    config = json.loads(adapter.read_text(encoding="utf-8"))
    if config.get("base_model_name_or_path") == base.get("path"):
        write_json(adapter, {**config, "revision": base["revision"]})
