"""Curricula: which episodes are played next. None is used unless `curriculum` names one.

A user's own is a class with these methods, named by `curriculum._target_`.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field

from envs.types import Episode


class Curriculum(Protocol):
    """Picks episodes out of each pass. Its state is JSON, and part of every checkpoint.

    In a run of several processes each has one of its own, and all are told the same.
    """

    def pick(
        self, left: Sequence[Episode], num_episodes: int, pass_number: int
    ) -> Sequence[Episode]:
        """`num_episodes` of those that are left in this pass, which stand in shuffled order.

        With fewer, the pass is over, and the next one begins with all episodes; a new pass that is
        given too few is filled up in shuffled order. Passes are counted from 0.
        """
        ...

    def observe(self, rewards: Mapping[str, Sequence[float]]) -> None:
        """The rewards of one rollout's attempts, by episode. The next one is picked already."""
        ...

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...


class ByLength:
    """Short episodes first, for the first `passes` passes; then in shuffled order.

    Length is the words of context and chapter together.
    """

    def __init__(self, passes: Annotated[int, Field(gt=0)] = 1) -> None:
        self.passes = passes

    def pick(
        self, left: Sequence[Episode], num_episodes: int, pass_number: int
    ) -> Sequence[Episode]:
        if pass_number >= self.passes:
            return left[:num_episodes]
        return heapq.nsmallest(num_episodes, left, key=num_words)

    def observe(self, rewards: Mapping[str, Sequence[float]]) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class ByRewardVariance:
    """Episodes that still teach something first: those whose attempts differ in reward.

    An episode's promise is the variance of its rewards when it was last played; one that was never
    played, or not in the last `revisit_after` passes, comes first. Where the variance is at most
    `min_variance`, all attempts were alike, the group gave no signal, and the episode is left out
    until it is visited again.
    """

    def __init__(
        self,
        min_variance: Annotated[float, Field(ge=0)] = 0.0,
        revisit_after: Annotated[int, Field(gt=0)] = 3,
    ) -> None:
        self.min_variance = min_variance
        self.revisit_after = revisit_after
        self._pass_number = 0
        self._variance: dict[str, float] = {}
        self._last_pass: dict[str, int] = {}

    def pick(
        self, left: Sequence[Episode], num_episodes: int, pass_number: int
    ) -> Sequence[Episode]:
        promise = {e.episode_id: self._promise(e.episode_id, pass_number) for e in left}
        promising = [e for e in left if promise[e.episode_id] > self.min_variance]
        # Stable: among equals the shuffled order decides.
        promising.sort(key=lambda e: promise[e.episode_id], reverse=True)
        picked = promising[:num_episodes]
        self._pass_number = pass_number
        if len(picked) == num_episodes:
            # Too few are not played: the pass is over. Their rewards come after the next pick.
            self._last_pass |= {e.episode_id: pass_number for e in picked}
        return picked

    def observe(self, rewards: Mapping[str, Sequence[float]]) -> None:
        self._variance |= {id_: statistics.pvariance(found) for id_, found in rewards.items()}
        self._last_pass |= dict.fromkeys(rewards, self._pass_number)

    def state(self) -> dict[str, Any]:
        return {
            "variance": dict(self._variance),
            "last_pass": dict(self._last_pass),
            "pass_number": self._pass_number,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._variance = dict(state["variance"])
        self._last_pass = dict(state["last_pass"])
        self._pass_number = state["pass_number"]

    def _promise(self, episode_id: str, pass_number: int) -> float:
        played = self._last_pass.get(episode_id)
        if played is None or pass_number - played >= self.revisit_after:
            return math.inf
        return self._variance.get(episode_id, math.inf)


def num_words(episode: Episode) -> int:
    """Words of an episode's context and chapter."""
    context = sum(len(section.text.split()) for section in episode.context.sections)
    return context + episode.chapter.num_words
