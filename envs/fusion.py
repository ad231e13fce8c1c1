"""Several writers, one next-token distribution: who writes together, and by what rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from envs.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class LogitFusion(Ensemble):
    """Writers who write the chapter together, token by token.

    `writers` stand in the rule's order; empty for all of the run, the generator first. Trained: the
    rule's few numbers (weights, strengths, gates), never a writer. Costs: each writer reads its
    prompt and the chapter. Fails where the writers agree, since there is nothing to gain
    then, and where weights that were found on few books do not hold on others.
    """

    learner: ClassVar[str] = "train.ensembles.fusion"

    rule: Any
    """How distributions combine: a component of `train.ensembles.fusion_rules`, or your own."""
    weights: Literal["fixed", "searched", "learned"] = "learned"
    """Whether the rule's numbers stay as configured, are tried out on validation books, or follow
    the gradient of the likelihood of training chapters."""
    vocabulary: Literal["same", "by_string"] = "same"
    """`same` refuses writers with another token-to-id map than the generator's; `by_string` reads
    their tokens by their strings, and reports how many have no counterpart."""
    evaluations: Annotated[int, Field(gt=0)] = 40
    """Of `searched`: how many settings are tried at most."""
    max_chapters: Annotated[int, Field(gt=0)] = 500
    """Of `learned`: training chapters that are learned from, drawn by the seed; the states of all
    are kept in memory."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    """Of `learned`: Adam's."""
    batch_size: Annotated[int, Field(gt=0)] = 8
    """Of `learned`: chapters per step."""
    epochs: Annotated[int, Field(gt=0)] = 20
    """Of `learned`: passes over the training chapters at most."""
    patience: Annotated[int, Field(gt=0)] = 3
    """Of `learned`: epochs in a row without a gain on validation that end it."""
