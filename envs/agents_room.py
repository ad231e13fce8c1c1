"""Agents' Room: planning and writing agents around a scratchpad, led by an orchestrator.

Source of the method: Huot et al. 2025, arXiv 2410.02603; the reasoner is that of Gurung & Lapata
2025, arXiv 2503.22828.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from envs.collaboration.collaboration import Collaboration, Note, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Section, Turn

PLANNING = ("conflict", "character", "setting", "plot")
WRITING = ("exposition", "rising_action", "climax", "falling_action", "resolution")
REASONER, ORCHESTRATOR, WRITER = "reasoner", "orchestrator", "writer"
STOP = "stop"


@dataclass(frozen=True)
class AgentsRoom(Collaboration):
    """Each agent reads the whole scratchpad and adds to it; what is written guides the generator.

    The deterministic orchestrator calls every agent once, in the published order. A learned one is
    a role of its own: before each turn it names the next agent of those that are left, or stops;
    an answer that does neither, or names several, is counted (`failed/choice`), and the next in
    order is called.

    Trained: every role that the policy plays, by default all, or those of them that
    `env.cast.trained` names. Cost: at most an answer for each agent, twice as many with a learned
    orchestrator. Failure: early agents that err, since all later ones build on them; a reasoner
    without a plan, for whom nothing stands in (status `no_plan`), or with `guidance: scratchpad`
    all that it said (`failed/reasoning`).
    """

    variant: Literal["plan", "write", "plan_write", "end_to_end"] = "plan"
    """Which agents there are; `end_to_end` is the baseline, one writer in one turn."""
    reasons: bool = True
    """A reasoning agent plans the chapter from the scratchpad, before anything is written."""
    orchestrator: Literal["deterministic", "learned"] = "deterministic"
    guidance: Literal["plan", "scratchpad"] = "plan"
    """What the generator is shown: the reasoner's plan, or all that agents wrote."""

    def __post_init__(self) -> None:
        if self.guidance == "plan" and REASONER not in self._agents:
            raise ValueError(
                f"env.guidance: plan is the reasoner's, and env.variant={self.variant} with "
                f"env.reasons={self.reasons} has none; set env.guidance=scratchpad"
            )
        if self.guidance == "plan" and set(WRITING) & set(self._agents):
            raise ValueError(
                f"env.guidance: plan is the reasoner's, and what the writing agents of "
                f"env.variant={self.variant} add to it would change nothing; set "
                "env.guidance=scratchpad, or env.variant=plan"
            )
        if self.orchestrator == "learned" and self.variant == "end_to_end":
            raise ValueError(
                "env.orchestrator: learned has nothing to choose in env.variant=end_to_end; set it "
                "to deterministic"
            )
        super().__post_init__()

    @property
    def most_turns(self) -> Mapping[str, int]:
        leading = {ORCHESTRATOR: len(self._agents)} if self.orchestrator == "learned" else {}
        return {**leading, **dict.fromkeys(self._agents, 1)}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        left = {play: list(self._agents) for play in plays}
        for _ in self._agents:
            talking = [play for play in plays if left[play]]
            if self.orchestrator == "learned":
                talking = self._called(table, talking, left)
            asks = []
            for play in talking:
                agent = left[play].pop(0)
                asks.append(self.ask_in(play, agent, self._scratchpad(play.turns)))
            table.round(asks)

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        if self.guidance == "plan":
            return self.plan_of(turns_of(turns, REASONER))
        written = [f"{s.heading}: {s.text}" for s in self._scratchpad(turns) if s.text]
        return "\n\n".join(written), PlanStatus.COMPLETE if written else PlanStatus.NO_PLAN

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        if self.guidance == "plan":
            return {}
        return {"failed/reasoning": self.num_without_plan(turns_of(turns, REASONER))}

    @property
    def _agents(self) -> tuple[str, ...]:
        """In the published order."""
        if self.variant == "end_to_end":
            return (WRITER,)
        planning = PLANNING if "plan" in self.variant else ()
        writing = WRITING if "write" in self.variant else ()
        return (*planning, *((REASONER,) if self.reasons else ()), *writing)

    def _scratchpad(self, turns: Sequence[Turn]) -> list[Note]:
        return [
            Note(_title(turn.role), self.content(turn.reply.text.strip()))
            for turn in turns_of(turns, *self._agents)
        ]

    def _called(
        self, table: Table, plays: Sequence[Play], left: Mapping[Play, list[str]]
    ) -> list[Play]:
        """Asks the orchestrator: plays that go on, the agent that it called first in their list."""
        asks = []
        for play in plays:
            names = ", ".join(_title(agent) for agent in left[play])
            shown = [*self._scratchpad(play.turns), Section("Agents left", names)]
            asks.append(self.ask_in(play, ORCHESTRATOR, shown))
        going_on = []
        for play, said in zip(plays, table.round(asks), strict=True):
            agents = left[play]
            choice = self._choice(said, agents)
            if choice == STOP and turns_of(play.turns, *self._agents):
                play.events["ended/stopped"] += 1
                agents.clear()
                continue
            if choice in agents:
                agents.insert(0, agents.pop(agents.index(choice)))
            else:
                play.events["failed/choice"] += 1
            going_on.append(play)
        return going_on

    def _choice(self, said: str, agents: Sequence[str]) -> str | None:
        """The one that the answer names, in whole words: an agent that is left, or the stop.

        An answer that names several has not chosen: who is put off in it may stand first.
        """
        text = said.replace("_", " ")
        named = [
            name
            for name in (*agents, STOP)
            if re.search(rf"\b{_title(name)}\b", text, flags=re.IGNORECASE)
        ]
        return named[0] if len(named) == 1 else None


def _title(role: str) -> str:
    return role.replace("_", " ").capitalize()
