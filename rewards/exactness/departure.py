"""How far likelihoods are from those of another form of the same generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rewards.improvement import improvement_percent
from rewards.likelihood.rounding import token_differences
from rewards.types import Likelihood, ScoreRequest


@dataclass(frozen=True)
class Departure:
    """What a lossy form of a generator, such as 8-bit weights, does to likelihoods and rewards.

    Nats are per gold token; points are per cent of improvement over the first request of the same
    episode, each form against its own: what the reward is made of.
    """

    mean_nats: float
    largest_nats: float
    mean_points: float
    largest_points: float

    @classmethod
    def between(
        cls,
        exact: Sequence[Likelihood],
        lossy: Sequence[Likelihood],
        requests: Sequence[ScoreRequest],
    ) -> Departure:
        """From the likelihoods of the same requests under both forms.

        Every episode needs its request without a plan first, and one with a plan.
        """
        first: dict[str, int] = {}
        points: list[float] = []
        nats = [abs(nats) for nats in token_differences(lossy, exact)]
        for place, (request, one, other) in enumerate(zip(requests, exact, lossy, strict=True)):
            baseline = first.setdefault(request.episode_id, place)
            if place != baseline:
                gain = improvement_percent(one, exact[baseline])
                points.append(abs(improvement_percent(other, lossy[baseline]) - gain))
        return cls(fmean(nats), max(nats), fmean(points), max(points))

    def __str__(self) -> str:
        return (
            f"a token is off by {self.mean_nats:.2g} nats on average "
            f"({self.largest_nats:.2g} at most), an improvement by {self.mean_points:.2g} points "
            f"({self.largest_points:.2g} at most)"
        )
