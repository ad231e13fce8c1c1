"""Divide and conquer: each question is answered alone, then a plan is made of the answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs.collaboration.collaboration import Collaboration, Note, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Section, Turn

DIVIDER, COMBINER = "divider", "combiner"
_LINE = re.compile(r"^\s*(?:[-*]|\d+[.):])\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class DivideAndConquer(Collaboration):
    """Solvers answer one question each, without hearing the others; a combiner plans from them.

    The questions are given, or come from a divider as a list; `failed/division` counts lists that
    have none, for which the given ones stand in.

    Trained: every role that the policy plays, by default all, or those of them that
    `env.cast.trained` names. Cost: at most `len(questions)` + 2 answers a play. Failure: questions
    that hang together, as no solver knows what another has decided; where the combiner has no plan,
    the last one among the solvers' answers is taken (`failed/combination`).
    """

    questions: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "Which of the open threads comes due now?",
        "Where does it happen, and who is there?",
        "What do those who are there want, and what will they do?",
    )
    divides: bool = False
    """A divider writes the questions, at most as many as are given."""

    @property
    def most_turns(self) -> Mapping[str, int]:
        divider = {DIVIDER: 1} if self.divides else {}
        return {**divider, **dict.fromkeys(self._solvers, 1), COMBINER: 1}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        questions = [self.questions for _ in plays]
        if self.divides:
            lists = table.round([self.ask_in(play, DIVIDER) for play in plays])
            questions = [self._divided(play, said) for play, said in zip(plays, lists, strict=True)]
        asks = [
            self.ask_in(play, solver, [Section("Question", question)])
            for play, asked in zip(plays, questions, strict=True)
            for solver, question in zip(self._solvers, asked, strict=False)
        ]
        answers = iter(table.round(asks))
        solved = [[Note(q, self.content(next(answers))) for q in asked] for asked in questions]
        table.round(
            [self.ask_in(play, COMBINER, parts) for play, parts in zip(plays, solved, strict=True)]
        )

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        combined = self.plan_of(turns_of(turns, COMBINER))
        return combined if combined[0] else self.plan_of(turns_of(turns, *self._solvers))

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        has_plan = bool(self.plan_of(turns_of(turns, COMBINER))[0])
        return {"failed/combination": int(not has_plan)}

    @property
    def _solvers(self) -> list[str]:
        return [f"solver_{number}" for number in range(1, len(self.questions) + 1)]

    def _divided(self, play: Play, said: str) -> tuple[str, ...]:
        found = tuple(_LINE.findall(said))[: len(self.questions)]
        if not found:
            play.events["failed/division"] += 1
        return found or self.questions
