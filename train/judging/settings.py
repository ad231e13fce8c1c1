"""Settings of `nextchapter evaluate judgments=...`, apart from those of a judge agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True)
class JudgingConfig:
    """How judgments become numbers."""

    bootstrap_samples: Annotated[int, Field(ge=100)] = 10_000
    """Resamples for the 95 % intervals."""
    resample: Literal["item", "annotator"] = "item"
    """What is drawn independently: `item` asks what other chapters would say to these annotators,
    `annotator` what other annotators would say to these chapters."""
    improvements: str | None = None
    """CSV with the columns item, option and improvement (in per cent), or the folder of a run that
    holds one; empty to use those that stand beside the judgments."""
