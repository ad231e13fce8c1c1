"""What every collaboration at text level has in common: roles, turns, and a plan read from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from envs.collaboration.agreement import vote
from envs.collaboration.cast import Budget, Cast
from envs.collaboration.table import Ask, Play, Table
from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.types import (
    Agent,
    Conversation,
    Episode,
    Guidance,
    PlanStatus,
    Reply,
    Rollout,
    Section,
    Turn,
)

_RANKS = (PlanStatus.COMPLETE, PlanStatus.TRUNCATED)


class Note(Section):
    """What a role is shown of another's answer, which is cut to `max_note_words`; other sections
    are shown whole."""


@dataclass(frozen=True)
class Collaboration(ABC):
    """Several roles talk in rounds; what they said is read as one plan, which guides the generator.

    An env says which roles there are and how often each speaks (`most_turns`), lets them speak
    (`converse`) and reads a transcript (`read`). The plan depends on the transcript alone, so that
    a turn can be left out and the rest read again (`without`).
    """

    prompts: Prompts = field(default_factory=Prompts)
    parser: PlanParser = field(default_factory=PlanParser)
    cast: Cast = field(default_factory=Cast)
    budget: Budget = field(default_factory=Budget)
    max_note_words: Annotated[int, Field(gt=0)] = 400
    """What one role is shown of another's answer is cut to so many words (`failed/note_cut` counts
    answers that were); what the generator is shown is not."""
    turns_learned: Annotated[int, Field(gt=0)] | None = None
    """Turns of a play that are learned from, drawn at random; empty for as many as there can be."""

    def __post_init__(self) -> None:
        self.cast.check(tuple(self.most_turns))
        if not self.most_trained_turns:
            raise ValueError("env.cast: the policy plays no role that learns; give it one")

    @property
    @abstractmethod
    def most_turns(self) -> Mapping[str, int]:
        """The roles in the order in which they first speak, and how often each does at most."""

    @abstractmethod
    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        """Lets the roles speak, all plays together, round by round."""

    @abstractmethod
    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        """The plan of a transcript, in which any turn may be missing."""

    def measures(self, turns: Sequence[Turn]) -> Mapping[str, float]:
        """What an env says of a transcript beside its plan."""
        return {}

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        """How often something else had to stand in where a transcript was read, as `failed/…`."""
        return {}

    def play(self, episodes: Sequence[Episode], policy: Agent) -> list[Rollout]:
        plays = [Play(episode) for episode in episodes]
        self.converse(Table(self.cast, policy, self.budget), plays)
        return [self._conclude(play) for play in plays]

    def ask(self, episode: Episode) -> Conversation:
        """What a planner who works alone would be asked."""
        return self.prompts.ask_for_plan(episode.context)

    @property
    def most_trained_turns(self) -> int:
        return sum(n for role, n in self.most_turns.items() if self.cast.is_trained(role))

    @property
    def rows_per_play(self) -> int:
        """How many turns of each play are learned from."""
        return min(self.most_trained_turns, self.turns_learned or self.most_trained_turns)

    def without(self, turns: Sequence[Turn], places: Collection[int]) -> list[Turn]:
        """The transcript without the turns at `places`, and without what exists only because of
        them.

        Nothing is said anew.
        """
        return [turn for i, turn in enumerate(turns) if i not in places]

    def rollout_without(self, rollout: Rollout, *places: int) -> Rollout:
        """The play, read again without some of its turns."""
        plan, status = self.read(self.without(rollout.turns, places))
        return replace(rollout, status=status, outcome=Guidance(plan))

    def without_role(self, turns: Sequence[Turn], role: str) -> tuple[str, PlanStatus]:
        """The plan of the transcript without anything that the role said."""
        places = [i for i, turn in enumerate(turns) if turn.role == role]
        return self.read(self.without(turns, places))

    def alone(self, turns: Sequence[Turn]) -> dict[str, tuple[str, PlanStatus]]:
        """What roles planned alone: the plans of the first round in which anybody planned.

        Who made them had read no plan of another; those who planned later had.
        """
        by_round: dict[int, list[Turn]] = {}
        for turn in turns:
            by_round.setdefault(turn.round, []).append(turn)
        for said in by_round.values():
            roles = dict.fromkeys(turn.role for turn in said)
            found = {role: self.plan_of(turns_of(said, role)) for role in roles}
            if any(plan for plan, _ in found.values()):
                return {role: (plan, status) for role, (plan, status) in found.items() if plan}
        return {}

    def ask_in(
        self, play: Play, role: str, shown: Sequence[Section] = (), task: str | None = None
    ) -> Ask:
        """A role's question in a play; its wording goes by `task`, or else by the role."""
        seen = [self._as_seen(play, section) for section in shown if section.text]
        prompt = self.prompts.ask_role(task or role, play.episode.context, seen)
        return Ask(play, role, prompt)

    def content(self, text: str) -> str:
        """What an answer says: its plan, or all of it where it has none."""
        plan, _ = self.parser.parse(Reply(text))
        return plan or text

    def note(self, text: str) -> str:
        """What others are shown of an answer: its content, up to `max_note_words`."""
        return self._cut(self.content(text))

    def plan_of(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        """The last plan among these turns; a complete one before one that was cut."""
        found = [self.parser.parse(turn.reply) for turn in turns]
        for status in _RANKS:
            plans = [plan for plan, read_as in found if read_as is status]
            if plans:
                return plans[-1], status
        return "", PlanStatus.NO_PLAN

    def voted(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        """The plan that gets the vote, among those of each of these turns."""
        plans = [self.plan_of([turn]) for turn in turns]
        return plans[vote([plan for plan, _ in plans])] if plans else ("", PlanStatus.NO_PLAN)

    def num_without_plan(self, turns: Sequence[Turn]) -> int:
        """How many of these turns have no plan in them."""
        return sum(not self.plan_of([turn])[0] for turn in turns)

    def _cut(self, text: str) -> str:
        return " ".join(text.split(" ")[: self.max_note_words])

    def _as_seen(self, play: Play, section: Section) -> Section:
        """The section as it is shown; an answer that is cut counts once, whoever reads it."""
        if not isinstance(section, Note) or (cut := self._cut(section.text)) == section.text:
            return section
        play.cut.add(section)
        return replace(section, text=cut)

    def _conclude(self, play: Play) -> Rollout:
        plan, status = self.read(play.turns)
        trained = [turn for turn in play.turns if turn.is_trained]
        last = trained[-1] if trained else play.turns[-1]
        return Rollout(
            play.episode,
            last.prompt,
            last.reply,
            status,
            Guidance(plan),
            tuple(play.turns),
            self._events(play),
            self.measures(play.turns),
        )

    def _events(self, play: Play) -> dict[str, int]:
        """What happened in the play, and what had to stand in where its transcript was read."""
        found = {"failed/note_cut": len(play.cut), **self.fallbacks(play.turns)}
        return {**play.events, **{name: number for name, number in found.items() if number}}


def turns_of(turns: Sequence[Turn], *roles: str) -> list[Turn]:
    """What these roles said, in order."""
    return [turn for turn in turns if turn.role in roles]
