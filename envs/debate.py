"""Debate: several agents plan, read each other's plans, and plan again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envs.collaboration.agreement import agreement
from envs.collaboration.collaboration import Collaboration, Note, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Turn

JUDGE = "judge"


@dataclass(frozen=True)
class Debate(Collaboration):
    """`debaters` plan for themselves, then again after each round's plans, at most `rounds` times.

    A play ends where all say the same (`ended/agreement`), early where a round has brought them no
    closer (`ended/no_gain`), which takes `rounds` of 3 or more to save one, else after its last
    round (`ended/rounds`). A vote decides, or a judge.

    Trained: every role that the policy plays, by default all debaters and the judge, or those of
    them that `env.cast.trained` names. Cost: at most debaters · rounds answers a play, and one for
    the judge. Failure: conformity, as who reads a wrong plan repeats it; a judge without a plan
    leaves it to the vote (`failed/judge`), and a debater without one has none (`failed/vote`).
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
        for number in range(2, self.rounds + 1):
            left = [play for play in left if not self._is_agreed(play, reached[play])]
            asks = [
                self.ask_in(play, name, self._others(play, name), f"debater_{self.manner}")
                for play in left
                for name in self._names
            ]
            table.round(asks)
            before = reached
            reached = {play: agreement(self._plans(play.turns)) for play in left}
            if number == self.rounds:
                # Nothing is saved by ending here.
                break
            stuck = [p for p in left if reached[p] <= before[p]]
            for play in stuck:
                play.events["ended/no_gain"] += 1
            left = [play for play in left if play not in stuck]
        for play in left:
            if not self._is_agreed(play, reached[play]):
                play.events["ended/rounds"] += 1
        if self.decided_by == "judge":
            table.round([self.ask_in(play, JUDGE, self._others(play, JUDGE)) for play in plays])

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        """The judge's plan; without one, the plan that gets the vote."""
        judged = self.plan_of(turns_of(turns, JUDGE))
        return judged if judged[0] else self.voted(self._votes(turns))

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        if self.plan_of(turns_of(turns, JUDGE))[0]:
            return {}
        silent = self.num_without_plan(self._votes(turns))
        return {"failed/judge": int(self.decided_by == "judge"), "failed/vote": silent}

    @property
    def _names(self) -> list[str]:
        return [f"debater_{number}" for number in range(1, self.debaters + 1)]

    def _votes(self, turns: Sequence[Turn]) -> list[Turn]:
        """The last turn of each debater who has spoken."""
        return [said[-1] for name in self._names if (said := turns_of(turns, name))]

    def _plans(self, turns: Sequence[Turn]) -> list[str]:
        """What each debater said last; one who has said nothing has an empty plan."""
        last = {turn.role: self.note(turn.reply.text) for turn in self._votes(turns)}
        return [last.get(name, "") for name in self._names]

    def _others(self, play: Play, name: str) -> list[Note]:
        return [
            Note(_title(turn.role), self.content(turn.reply.text))
            for turn in self._votes(play.turns)
            if turn.role != name
        ]

    def _is_agreed(self, play: Play, reached: float) -> bool:
        if reached < 1:
            return False
        play.events["ended/agreement"] += 1
        return True


def _title(name: str) -> str:
    return f"Plan of {name.replace('_', ' ')}"
