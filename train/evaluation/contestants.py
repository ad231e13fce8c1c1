"""Models that an evaluation judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.types import LikelihoodScorer

T = TypeVar("T")


@dataclass(frozen=True)
class Contestant(Generic[T]):
    """A model to be judged, which is loaded when there is something for it to do.

    `digest` identifies its weights.
    """

    digest: str
    load: Callable[[], T]


Planner = Contestant[tuple[PreTrainedModel, PreTrainedTokenizerBase]]
Writer = Contestant[LikelihoodScorer]
Second = Contestant[LikelihoodImprovement]
