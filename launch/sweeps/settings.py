"""The settings of an optimiser's sweep: `hydra.sweeper` with `hydra/sweeper=optuna`, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True)
class SweeperSettings:
    """How trials are chosen, and how many; names are those that Optuna and Hydra use."""

    n_trials: Annotated[int, Field(gt=0)] = 20
    """Trials in all, those that failed included."""
    n_jobs: Annotated[int, Field(gt=0)] = 1
    """Trials whose jobs wait or run at a time."""
    metric: str = "improvement"
    """What a trial is judged by; besides `improvement` any name of `metrics.jsonl`, whose last
    value counts."""
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    n_startup_trials: Annotated[int, Field(ge=0)] = 10
    """So many trials are drawn at random before the sampler has something to learn from."""
    seed: Annotated[int, Field(ge=0)] = 0
    poll_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two looks at the jobs."""
