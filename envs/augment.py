"""Augment: specialists each write a paragraph about the story, and a writer plans with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envs.collaboration.collaboration import Collaboration, Note, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Turn

WRITER = "writer"


@dataclass(frozen=True)
class Augment(Collaboration):
    """Specialists write without hearing each other; the writer reads all of them and plans.

    With `guidance: all`, the generator is shown the paragraphs, whole, as well as the plan.

    Trained: every role that the policy plays, by default all, or those of them that
    `env.cast.trained` names. Cost: one answer for each specialist and one for the writer. Failure:
    a writer without a plan, for whom nothing stands in (status `no_plan`), and a paragraph that
    knows nothing of the story and is believed.
    """

    specialists: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "characters",
        "world",
        "threads",
    )
    """Roles with a task of their own in `prompts.tasks`."""
    guidance: Literal["plan", "all"] = "plan"

    @property
    def most_turns(self) -> Mapping[str, int]:
        return {**dict.fromkeys(self.specialists, 1), WRITER: 1}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        table.round([self.ask_in(play, name) for play in plays for name in self.specialists])
        table.round(
            [
                self.ask_in(play, WRITER, self._paragraphs(play.turns), "augmented_writer")
                for play in plays
            ]
        )

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        plan, status = self.plan_of(turns_of(turns, WRITER))
        if self.guidance == "plan" or not plan:
            return plan, status
        shown = [section.text for section in self._paragraphs(turns) if section.text]
        return "\n\n".join([*shown, plan]), status

    def _paragraphs(self, turns: Sequence[Turn]) -> list[Note]:
        return [
            Note(turn.role.replace("_", " ").capitalize(), self.content(turn.reply.text.strip()))
            for turn in turns_of(turns, *self.specialists)
        ]
