"""Running mean and deviation of the scores, by which the critic's targets keep one size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunningMoments:
    """Exponential averages over rollouts, corrected for having started at nothing.

    `decay` is the weight of the past; with 0.9 the last ten rollouts count.
    """

    decay: float = 0.9
    weight: float = 0.0
    first: float = 0.0
    second: float = 0.0

    def add(self, mean: float, deviation: float) -> None:
        """Counts one rollout in, by the mean and the deviation of its scores."""
        new = 1 - self.decay
        self.weight = self.decay * self.weight + new
        self.first = self.decay * self.first + new * mean
        self.second = self.decay * self.second + new * (deviation**2 + mean**2)

    @property
    def mean(self) -> float:
        """0 before the first rollout."""
        return self.first / self.weight if self.weight else 0.0

    @property
    def deviation(self) -> float:
        """0 before the first rollout."""
        return max(self.second / self.weight - self.mean**2, 0.0) ** 0.5 if self.weight else 0.0
