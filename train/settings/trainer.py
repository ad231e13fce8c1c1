"""Either algorithm's settings: one key tells which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from train.ppo.settings import PpoSettings
from train.settings.grpo import GrpoSettings


def _algorithm(trainer: Any) -> str:
    """Runs that were saved when there was no choice name none."""
    if isinstance(trainer, Mapping):
        return str(trainer.get("algorithm", "grpo"))
    return trainer.algorithm


TrainerSettings = Annotated[
    Annotated[GrpoSettings, Tag("grpo")] | Annotated[PpoSettings, Tag("ppo")],
    Discriminator(
        _algorithm,
        custom_error_type="unknown_algorithm",
        custom_error_message="`algorithm` should be grpo or ppo",
    ),
]
