"""The improvement on the true chapter against that on other chapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from pydantic import Field

from rewards.improvement import improvement_percent
from rewards.types import Measured


@dataclass(frozen=True)
class Contrastive:
    """I(y) − mean over k other chapters of max(I(y_k), floor), in per cent.

    I(y_k) is what the same plan, behind the same context, does to the chapter of another episode,
    against that chapter's own likelihood without a plan. A plan that fits every chapter (a style, a
    list of common words) is worth nothing; an empty plan is worth exactly 0. Without the floor the
    cheapest way to be paid would be to make other chapters impossible.
    Source: after the contrastive reward of Gurung et al. 2025 (LiteReason, arXiv 2512.02240), where
    a plan has to raise the true chapter's likelihood and to lower that of others; the form and the
    floor are choices made here.

    Costs k more suffixes of plan and chapter per attempt, and k more baselines per episode.
    """

    num_distractors: Annotated[int, Field(gt=0)] = 2
    """k: other chapters that each attempt is scored on."""
    floor: Annotated[float, Field(le=0)] = -5.0
    """Harm to another chapter, in per cent, beyond which more harm pays no more."""

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [measured.improvement - self._on_others(measured) for measured in group]

    def _on_others(self, measured: Measured) -> float:
        others = measured.distractors[: self.num_distractors]
        return fmean(max(improvement_percent(o.with_plan, o.baseline), self.floor) for o in others)
