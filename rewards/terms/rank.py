"""The place within the group, and shortness among those that are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from rewards.types import Measured


@dataclass(frozen=True)
class Rank:
    """Share of the other attempts that this one beats, plus a share for beating them briefly.

    With n attempts of likelihood ℓᵢ = log p(y|x,aᵢ) and of |aᵢ| plan tokens:

        rankᵢ       = (#{j: ℓⱼ < ℓᵢ} + ½ #{j ≠ i: ℓⱼ = ℓᵢ}) / (n − 1)       in [0, 1]
        efficiencyᵢ = #{j: ℓⱼ < ℓᵢ and |aⱼ| > |aᵢ|} / (n − 1)                 in [0, 1]
        value       = rankᵢ + efficiency_weight · efficiencyᵢ

    Blind to how large a gain is: every group has signal, and none of an outlier's size. It pays the
    best attempt of a group in which all are worse than none. An attempt alone is worth ½.
    Source: after Liu et al. 2025 (NOVER, arXiv 2505.16022), who reward the place of a reasoning's
    perplexity within its group and, as efficiency, being both better and shorter than others. Their
    perplexity is divided by a logarithm of the length and is the trained model's own; ours is not.
    """

    efficiency_weight: Annotated[float, Field(ge=0)] = 0.25
    """Weight of efficiency beside the rank."""

    needs_group: ClassVar[bool] = True

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [self._value(i, group) for i in range(len(group))]

    def _value(self, i: int, group: Sequence[Measured]) -> float:
        mine, others = group[i], [*group[:i], *group[i + 1 :]]
        if not others:
            return 0.5
        nll = mine.gold.with_plan.nll
        beaten = [o for o in others if o.gold.with_plan.nll > nll]
        num_ties = sum(o.gold.with_plan.nll == nll for o in others)
        num_longer = sum(o.num_plan_tokens > mine.num_plan_tokens for o in beaten)
        rank = (len(beaten) + num_ties / 2) / len(others)
        return rank + self.efficiency_weight * num_longer / len(others)
