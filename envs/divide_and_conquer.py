"""Divide and conquer: each question is answered alone, then a plan is made of the answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs.collaboration.collaboration import Collaboration, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Section, Turn

DIVIDER, COMBINER = "divider", "combiner"
_LINE = re.compile(r"^\s*(?:[-*]|\d+[.):])\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class DivideAndConquer(Collaboration):
    """Solvers answer one question each, without hearing the others; a combiner plans from them.

    The questions are given, or come from a divider as a list; `failed/division` counts lists that
    have none, for which the given ones stand in. A play costs at most `len(questions)` + 2 answers.
    Where the combiner writes no plan, the last plan among the solvers' answers is taken. It fails
    where the questions hang together: no solver knows what another has decided.
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
        solved = [[(q, self.note(next(answers))) for q in asked] for asked in questions]
        table.round(
            [
                self.ask_in(play, COMBINER, [Section(q, answer) for q, answer in parts])
                for play, parts in zip(plays, solved, strict=True)
            ]
        )

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        combined = self.plan_of(turns_of(turns, COMBINER))
        return combined if combined[0] else self.plan_of(turns_of(turns, *self._solvers))

    @property
    def _solvers(self) -> list[str]:
        return [f"solver_{number}" for number in range(1, len(self.questions) + 1)]

    def _divided(self, play: Play, said: str) -> tuple[str, ...]:
        found = tuple(_LINE.findall(said))[: len(self.questions)]
        if not found:
            play.events["failed/division"] += 1
        return found or self.questions
