"""Which checkpoints a run keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints a run keeps; `trainer.save_steps` says how often one is made."""

    keep_last: Annotated[int, Field(gt=0)] = 2
    """Newest checkpoints to keep. With two, a damaged one costs some steps and not the run."""
    keep_every: Annotated[int, Field(gt=0)] | None = None
    """Checkpoints at multiples of so many optimizer steps stay for good; empty for none."""
