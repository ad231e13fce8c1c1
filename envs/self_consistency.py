"""Self-consistency: one planner is asked several times, and the plan that agrees most is taken.

Source of the method: Wang et al. 2023, arXiv 2203.11171.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs.collaboration.collaboration import Collaboration, turns_of
from envs.collaboration.table import Play, Table
from envs.solo import PLANNER
from envs.types import Agent, Episode, PlanStatus, Rollout, Turn


@dataclass(frozen=True)
class SelfConsistency(Collaboration):
    """The planner makes `num_samples` plans without hearing of any of them, and a vote decides.

    It costs `num_samples` answers, and is what collaborations are measured by: the same agent alone
    with as many tokens (`play_within`). The planner is trained. It fails where an error is the
    likeliest plan, and gains nothing where answers are not sampled, as all of them are then the
    same; a sample without a plan has no vote (`failed/vote`).
    """

    num_samples: Annotated[int, Field(gt=0)] = 5

    @property
    def most_turns(self) -> Mapping[str, int]:
        return {PLANNER: self.num_samples}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        table.round([self.ask_in(play, PLANNER) for play in plays for _ in range(self.num_samples)])

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        return self.voted(turns_of(turns, PLANNER))

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        return {"failed/vote": self.num_without_plan(turns_of(turns, PLANNER))}

    def play_within(
        self, episodes: Sequence[Episode], policy: Agent, num_tokens: Sequence[float]
    ) -> list[Rollout]:
        """Plays with as many samples as it takes to say so many tokens at each episode, or more by
        a part of the last sample; one at least, and no more than `budget` allows.
        """
        plays = [Play(episode) for episode in episodes]
        table = Table(self.cast, policy, self.budget)
        left = list(zip(plays, num_tokens, strict=True))
        while left:
            table.round([self.ask_in(play, PLANNER) for play, _ in left])
            left = [
                (play, wanted)
                for play, wanted in left
                if play.cost.generated_tokens < wanted and not play.events["failed/budget"]
            ]
        return [self._conclude(play) for play in plays]
