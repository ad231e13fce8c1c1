"""`nextchapter export run=runs/<run> to=FOLDER`: an agent as others load it, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from train.config.validate import parse
from train.run_folder import RunFolder


@dataclass(frozen=True)
class ExportConfig:
    """One export."""

    run_dir: str
    run: str | None = None
    """Folder of the run."""
    to: str | None = None
    """Folder to make; it must not be there yet, or be empty."""
    checkpoint: str | None = None
    """A checkpoint of the run; empty for its trained agent."""
    experiment_name: str = "export"
    seed: int = 0


def run(config: DictConfig) -> None:
    """Copies what `from_pretrained` loads, and writes a model card beside it."""
    settings = parse(ExportConfig, config)
    for key in ("run", "to"):
        if getattr(settings, key) is None:
            raise ValueError(f"{key}: is missing; nextchapter export run=runs/<run> to=FOLDER")
    from train.commands.evaluate import find_checkpoint
    from train.export.folder import export

    trained = RunFolder.open(str(settings.run))
    source = find_checkpoint(trained, settings.checkpoint)
    if not isinstance(source, Path):
        raise ValueError(f"checkpoint: {source} is on the Hub already; name one of the run")
    target = export(source, trained, Path(str(settings.to)))
    kind = "LoRA adapters" if (target / "adapter_config.json").is_file() else "a whole model"
    Console().print(f"{target} holds {kind} and README.md", highlight=False, soft_wrap=True)
