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
    """`writers` in the order in which they are asked; empty for all, the smallest first.

    Each begins the chapter with one or several drafts; where these raise more doubt than the
    writer's threshold allows, the next one is asked. Trained: the thresholds, and for `quality` a
    regression; thresholds are set on validation, so that writing costs no more than `budget` of the
    way from the first writer alone to all of them.

    Costs: the drafts of all who were asked, whose context each of them reads for it, and the whole
    chapter of the last; `quality` has the generator read the context as well. So it pays only where
    the first writer is much smaller than the last. Fails by confidence, as a writer that is sure
    and wrong is never doubted; and where what doubt foretells on validation books does not hold on
    others.
    """

    learner: ClassVar[str] = "train.ensembles.cascade"
    is_smallest_first: ClassVar[bool] = True

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
