"""API level: the first writer gets the chapter, and a doubtful one is handed on to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from envs.ensemble import Ensemble

Signal = Literal["quality", "agreement", "uncertainty"]
"""What tells that a writer will not do: `quality`: a learned estimate of what a later one would
gain (FrugalGPT, Chen et al. 2023, 2305.05176); `agreement`: its drafts differ from each other;
`uncertainty`: the mean entropy of its next-token distributions over its draft."""


@dataclass(frozen=True)
class Cascade(Ensemble):
    """`writers` in the order in which they are asked, the cheapest first.

    Each begins the chapter with one or several drafts; where these raise more doubt than the
    writer's threshold allows, the next one is asked. Thresholds are set on validation, so that
    writing costs no more than `budget` of the way from the first writer alone to all of them.
    """

    learner: ClassVar[str] = "train.ensembles.cascade"

    signal: Signal = "quality"
    budget: Annotated[float, Field(ge=0, le=1)] = 0.5
    """0: the first writer alone; 1: what it costs to ask all of them about every chapter."""
    num_drafts: Annotated[int, Field(gt=1)] = 4
    """Of `agreement`: how many drafts are compared; the other signals take one."""
    draft_tokens: Annotated[int, Field(gt=0)] = 24
    """How far a draft goes."""
    max_episodes: Annotated[int, Field(gt=0)] | None = None
    """Learn from the first so many training episodes; empty for all."""
    batch_size: Annotated[int, Field(gt=0)] = 64
