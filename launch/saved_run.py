"""Starts from an earlier run (`resume=DIR`, `run=DIR`), whose saved config is the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from launch.cli import Command

RUN_FOLDER_CONFIG = "hydra/run_folder"
SAVED_RUN_CONFIG = "saved_run"


def take_saved_run(command: Command, overrides: list[str]) -> Path | None:
    """The folder in `resume=DIR`, which is taken out of the overrides."""
    key = command.saved_run_key
    found = [item for item in overrides if key and item.partition("=")[0].lstrip("+") == key]
    if not found:
        return None
    override = OverridesParser.create().parse_override(found[-1])
    if override.is_sweep_override():
        raise ValueError(f"{key}: names one run at a time; got {found[-1]!r}")
    for item in found:
        overrides.remove(item)
    value = override.value()
    return None if value is None else Path(str(value))


def store_saved_run(
    command: Command, folder: Path, overrides: Sequence[str], config_dir: Path
) -> None:
    """Offers the saved config to Hydra as a primary config, so that overrides work on top of it.

    Of a group that is chosen anew, nothing that was saved stays: another choice has other settings.
    """
    from train.run_folder import RunFolder

    saved = _escaped(RunFolder.open(folder).load_config())
    assert command.saved_run_key is not None
    own: Any = OmegaConf.load(config_dir / f"{command.config_name}.yaml")
    keys = {override.partition("=")[0] for override in overrides}
    chosen = [group for group in command.saved_run_groups if group in keys]
    node = {
        # Which one is the override's to say.
        "defaults": [RUN_FOLDER_CONFIG, "_self_", *({group: "???"} for group in chosen)],
        **{key: value for key, value in saved.items() if key not in chosen},
        **{key: own[key] for key in command.saved_run_settings},
        command.saved_run_key: _escape(str(folder)),
        "run_dir": "/".join(filter(None, (_escape(str(folder)), command.saved_run_output))),
    }
    ConfigStore.instance().store(name=SAVED_RUN_CONFIG, node=node)


def _escaped(value: Any) -> Any:
    """The value with `${` kept as text: a saved config is resolved, nothing in it refers."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return _escape(value) if isinstance(value, str) else value


def _escape(text: str) -> str:
    return text.replace("${", "\\${")
