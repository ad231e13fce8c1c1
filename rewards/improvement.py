"""The one formula: how far an outcome lowers perplexity on the gold chapter."""

from __future__ import annotations

import math

from rewards.types import Likelihood


def improvement_percent(with_outcome: Likelihood, baseline: Likelihood) -> float:
    """I = 100 · [1 - PPL(y|x,a) / PPL(y|x)] in per cent; 2.0 means 2 % lower perplexity.

    Computed in float64 as -100 · expm1((nll(y|x,a) - nll(y|x)) / n), exactly 0.0 where the two
    likelihoods are equal. Source: Gurung & Lapata 2025, arXiv 2503.22828, eq. 1.

    Raises:
        ValueError: the two likelihoods are not over the same number of tokens.
    """
    if with_outcome.num_tokens != baseline.num_tokens:
        raise ValueError(
            f"improvement compares the same gold tokens; got {with_outcome.num_tokens} "
            f"and {baseline.num_tokens}."
        )
    return -100.0 * math.expm1((with_outcome.nll - baseline.nll) / baseline.num_tokens) + 0.0
