"""How far likelihoods are off by rounding alone, and how that compares with what is rewarded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from rewards.improvement import improvement_percent
from rewards.types import LikelihoodScorer, ScoreRequest


@dataclass(frozen=True)
class Noise:
    """By how many points (per cent of improvement) a scorer's likelihoods are off by rounding.

    The largest and the mean over requests, between the requests scored together and `regrouped`:
    in the opposite order and one by one; and between them and the dense scorer, of the precision
    that `oracle_dtype` names.
    """

    largest_regrouped: float
    mean_regrouped: float
    largest_against_oracle: float
    mean_against_oracle: float
    oracle_dtype: str

    @property
    def largest(self) -> float:
        return max(self.largest_regrouped, self.largest_against_oracle)


def measure_noise(
    scorer: LikelihoodScorer,
    oracle: LikelihoodScorer,
    oracle_dtype: torch.dtype,
    requests: Sequence[ScoreRequest],
) -> Noise:
    """Scores the requests several times; give a few episodes with a few attempts each, and as
    oracle a dense scorer in fp32 where there is memory for one (`rewards.likelihood.oracle`). A
    scorer that remembers likelihoods has no noise to show: give the one that computes them.

    The reward compares a plan's likelihood with the baseline's under the same scorer, so what the
    two are off by in common cancels; pass both among the requests and the figures are upper bounds.
    """
    together = scorer.score(requests)
    regrouped = [
        *zip(together, reversed(scorer.score(requests[::-1])), strict=True),
        *zip(together, [scorer.score([r])[0] for r in requests], strict=True),
    ]
    against = list(zip(together, oracle.score(requests), strict=True))
    off = [[abs(improvement_percent(a, b)) for a, b in pairs] for pairs in (regrouped, against)]
    return Noise(max(off[0]), fmean(off[0]), max(off[1]), fmean(off[1]), str(oracle_dtype)[6:])


# Noise of at most this share of the first threshold hardly moves a reward.
FAR_BELOW = 0.1


def noise_line(noise: Noise, first_threshold: float | None) -> tuple[str, bool]:
    """What to print at start-up, and whether the noise is far below the first threshold.

    `first_threshold` is in points; None where every improvement counts, which is never far above.
    """
    line = (
        f"scoring noise: {noise.largest:.2g} points at most "
        f"(order and batch {noise.mean_regrouped:.2g} on average, "
        f"against the dense scorer in {noise.oracle_dtype} {noise.mean_against_oracle:.2g})"
    )
    if first_threshold is None:
        return line, True
    is_far_below = noise.largest <= FAR_BELOW * first_threshold
    verdict = "far below" if is_far_below else "NOT far below"
    remedy = "" if is_far_below else "; load the generator in float32, or raise the threshold"
    return f"{line}, {verdict} the reward's first threshold of {first_threshold:g}{remedy}", (
        is_far_below
    )
