"""Debate: several agents plan, read each other's plans, and plan again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envs.collaboration.agreement import agreement
from envs.collaboration.collaboration import Collaboration, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Section, Turn

JUDGE = "judge"


@dataclass(frozen=True)
class Debate(Collaboration):
    """`debaters` plan for themselves, then again after each round's plans, at most `rounds` times.

    A play ends early where all say the same (`ended/agreement`) or where a round has brought them
    no closer (`ended/no_gain`); else after its last round (`ended/rounds`). A vote decides, or a
    judge, whose failure (`failed/judge`) leaves it to the vote. It costs at most debaters · rounds
    answers, and one for the judge, and fails by conformity: who reads a wrong plan repeats it.
    """

    debaters: Annotated[int, Field(ge=2)] = 3
    rounds: Annotated[int, Field(gt=0)] = 2
    manner: Literal["cooperative", "competitive"] = "cooperative"
    """From the second round on, debaters mend each other's plans, or attack them."""
    decided_by: Literal["vote", "judge"] = "vote"

    @property
    def most_turns(self) -> Mapping[str, int]:
        judge = {JUDGE: 1} if self.decided_by == "judge" else {}
        return {**dict.fromkeys(self._names, self.rounds), **judge}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        table.round([self.ask_in(play, name) for play in plays for name in self._names])
        left = list(plays)
        reached = {play: agreement(self._plans(play.turns)) for play in plays}
        for _ in range(1, self.rounds):
            left = [play for play in left if not self._is_agreed(play, reached[play])]
            asks = [
                self.ask_in(play, name, self._others(play, name), f"debater_{self.manner}")
                for play in left
                for name in self._names
            ]
            table.round(asks)
            before = reached
            reached = {play: agreement(self._plans(play.turns)) for play in left}
            stuck = [p for p in left if reached[p] <= before[p]]
            for play in stuck:
                play.events["ended/no_gain"] += 1
            left = [play for play in left if play not in stuck]
        for play in left:
            if not self._is_agreed(play, reached[play]):
                play.events["ended/rounds"] += 1
        if self.decided_by == "judge":
            self._judge(table, plays)

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        """The judge's plan; without one, the plan that gets the vote."""
        judged = self.plan_of(turns_of(turns, JUDGE))
        if judged[0]:
            return judged
        return self.voted([said[-1] for name in self._names if (said := turns_of(turns, name))])

    @property
    def _names(self) -> list[str]:
        return [f"debater_{number}" for number in range(1, self.debaters + 1)]

    def _plans(self, turns: Sequence[Turn]) -> list[str]:
        """What each debater said last; one who has said nothing has an empty plan."""
        last = [turns_of(turns, name)[-1:] for name in self._names]
        return [self.note(turn[0].reply.text) if turn else "" for turn in last]

    def _others(self, play: Play, name: str) -> list[Section]:
        plans = zip(self._names, self._plans(play.turns), strict=True)
        return [Section(_title(other), plan) for other, plan in plans if other != name]

    def _is_agreed(self, play: Play, reached: float) -> bool:
        if reached < 1:
            return False
        play.events["ended/agreement"] += 1
        return True

    def _judge(self, table: Table, plays: Sequence[Play]) -> None:
        asks = [self.ask_in(play, JUDGE, self._others(play, JUDGE)) for play in plays]
        table.round(asks)
        for play in plays:
            if not self.plan_of(turns_of(play.turns, JUDGE))[0]:
                play.events["failed/judge"] += 1


def _title(name: str) -> str:
    return f"Plan of {name.replace('_', ' ')}"
