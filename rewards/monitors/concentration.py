"""How few tokens a gain comes from."""

from __future__ import annotations

import math

from rewards.types import Likelihood


def top_share(with_plan: Likelihood, baseline: Likelihood, share: float = 0.05) -> float | None:
    """Share of all nats gained that comes from the `share` of tokens (at least one) that gain most.

    Losses are left out. In (0, 1]; 1 where a single token has it all. None where nothing is gained.
    """
    pairs = zip(with_plan.token_nll, baseline.token_nll, strict=True)
    gains = sorted((max(0.0, before - after) for after, before in pairs), reverse=True)
    total = math.fsum(gains)
    if total == 0.0:
        return None
    return math.fsum(gains[: max(1, math.floor(share * len(gains)))]) / total
