"""What each token of a plan tells about the chapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rewards.types import Measured


@dataclass(frozen=True)
class InformationGain:
    """(log p(y|x,a) − log p(y|x)) / max(|a|, min_plan_tokens), in nats per plan token.

    |a| is the plan's tokens, heading included. Exactly 0 for an empty plan. Divided by its length,
    a gain is worth most where it is put briefly; below `min_plan_tokens` brevity is no longer paid,
    or a single lucky word would be the best plan.
    Source: after Hatamizadeh et al. 2025 (RLP, arXiv 2510.01265), whose reward is the gain in
    log-likelihood over not thinking, against a moving average of the model; here the generator is
    frozen and is its own baseline, and the division by the plan's length is a choice made here.
    """

    min_plan_tokens: Annotated[int, Field(gt=0)] = 16
    """Shorter plans count as this long."""

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [
            (m.gold.baseline.nll - m.gold.with_plan.nll)
            / max(m.num_plan_tokens, self.min_plan_tokens)
            for m in group
        ]
