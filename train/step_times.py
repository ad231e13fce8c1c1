"""Where the time of an optimizer step goes, of any trainer: measured around what it calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from envs.types import Rollout
from rewards.types import Reward, Score
from train import ranks

PARTS = ("rollout", "waiting", "scoring", "update", "outside")
"""In seconds of this process: until the answers are there, until those of all processes are and
what a pool or other ranks score, in the reward otherwise, in the rest of the step, and between
steps, where probes, checkpoints and logs are made."""


@dataclass
class StepTimes:
    """A clock that the trainer's callbacks start and stop, and the reward divides."""

    now: Callable[[], float] = time.perf_counter
    _began: float | None = None
    _ended: float | None = None
    _scored: float | None = None
    _taken: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        self._began, self._scored = self.now(), None
        self._taken = dict.fromkeys(PARTS, 0.0)
        if self._ended is not None:
            self._taken["outside"] = self._began - self._ended

    def end(self) -> None:
        assert self._began is not None, "a step ends that has not begun"
        self._ended = self.now()
        if self._scored is not None:
            before = self._scored - self._began
            self._taken["rollout"] = before - self._taken["waiting"] - self._taken["scoring"]
        self._taken["update"] = self._ended - (self._scored or self._began)

    def score(self, reward: Reward, rollouts: Sequence[Rollout]) -> list[Score]:
        """What the reward says, once all processes are there to ask it."""
        arrived = self.now()
        # The scorer would wait for the slowest process anyway; so it is known how long.
        ranks.any_says(False)
        asked = self.now()
        waited = -_seconds_waited(reward)
        scores = reward(rollouts)
        waited += _seconds_waited(reward)
        self._scored = self.now()
        if self._taken:
            self._taken["waiting"] += asked - arrived + waited
            self._taken["scoring"] += self._scored - asked - waited
        return scores

    @property
    def metrics(self) -> dict[str, float]:
        """Of the step that ended last; {} before there is one."""
        return {f"time/{part}": seconds for part, seconds in self._taken.items()}

    @property
    def step_s(self) -> float:
        """The whole step that ended last, without what was outside."""
        return sum(seconds for part, seconds in self._taken.items() if part != "outside")


def _seconds_waited(reward: Reward) -> float:
    """For a pool or for other ranks, in all calls of the reward's scorer so far."""
    return getattr(getattr(reward, "scorer", None), "seconds_waited", 0.0)


@dataclass(frozen=True)
class TimedReward:
    """The reward of a run, whose calls are timed."""

    reward: Reward
    times: StepTimes

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return self.times.score(self.reward, rollouts)

    @property
    def scorer(self) -> object:
        return getattr(self.reward, "scorer", None)

    def foresee(self, rollouts: Sequence[Rollout]) -> None:
        """As the reward does, which sends work away and does not wait for it."""
        cast(Any, self.reward).foresee(rollouts)
