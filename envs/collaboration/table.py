"""The table that members sit around: asks whole rounds at once and keeps what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from envs.collaboration.cast import Budget, Cast
from envs.types import Agent, Conversation, Cost, Episode, Reply, Section, Turn, VoicedAgent
from envs.voices import NO_VOICE

OUT_OF_BUDGET = Reply("", failure="budget")


@dataclass(eq=False)
class Play:
    """One episode being played: what was said so far, and what happened beside it.

    Two plays of one episode are two, even where the same was said.
    """

    episode: Episode
    turns: list[Turn] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    cut: set[Section] = field(default_factory=set)
    """Answers of which others were shown only the beginning."""
    cost: Cost = field(default_factory=Cost)
    rounds: int = 0


@dataclass(frozen=True)
class Ask:
    """What one role is asked in one play."""

    play: Play
    role: str
    prompt: Conversation


class Table:
    """Asks the members, each once for all plays of a round and voice, and counts what goes wrong.

    `failed/budget`: not asked any more. `failed/empty`: nothing was said. `failed/too_long`: the
    length limit cut it. `failed/<why>`: the member gave no answer, and said why.
    """

    def __init__(self, cast: Cast, policy: Agent, budget: Budget) -> None:
        self.cast = cast
        self.policy = policy
        self.budget = budget

    def round(self, asks: Sequence[Ask]) -> list[str]:
        """What each asked role said, in order; empty where it said nothing."""
        replies: dict[int, Reply] = {}
        by_voice: dict[tuple[str, str], list[int]] = {}
        for play in dict.fromkeys(ask.play for ask in asks):
            play.rounds += 1
        for place, ask in enumerate(asks):
            # Counted before they are answered: a round may ask one play several times.
            if self._is_spent(ask.play.cost):
                replies[place] = OUT_OF_BUDGET
                continue
            ask.play.cost += Cost(calls=1)
            member = self.cast.member_of(ask.role)
            by_voice.setdefault((member, self._voice(member, ask.role)), []).append(place)
        for (member, voice), places in by_voice.items():
            agent = self.cast.agent(member, self.policy)
            prompts = [asks[place].prompt for place in places]
            said = (
                cast(VoicedAgent, agent).reply_as(voice, prompts) if voice else agent.reply(prompts)
            )
            if len(said) != len(prompts):
                raise ValueError(
                    f"env.cast.members.{member}: gave {len(said)} answers to {len(prompts)} "
                    "conversations; it has to give one to each, in order"
                )
            replies |= zip(places, said, strict=True)
        return [self._keep(ask, replies[place]) for place, ask in enumerate(asks)]

    def _voice(self, member: str, role: str) -> str:
        """The member's voice for the role; none where it speaks the same in all of them."""
        agent = self.cast.agent(member, self.policy)
        return role if role in getattr(agent, "voices", ()) else NO_VOICE

    def _is_spent(self, cost: Cost) -> bool:
        limit = self.budget.max_generated_tokens
        is_talked_out = limit is not None and cost.generated_tokens >= limit
        return is_talked_out or cost.calls >= self.budget.max_calls

    def _keep(self, ask: Ask, reply: Reply) -> str:
        play, member = ask.play, self.cast.member_of(ask.role)
        if reply.failure:
            play.events[f"failed/{reply.failure}"] += 1
        elif not reply.text.strip():
            play.events["failed/empty"] += 1
        elif reply.truncated:
            play.events["failed/too_long"] += 1
        if reply is OUT_OF_BUDGET:
            return ""
        usage = reply.usage
        play.cost += Cost(0, usage.read_tokens, usage.generated_tokens, usage.money)
        is_trained = self.cast.is_trained(ask.role)
        play.turns.append(Turn(ask.role, member, ask.prompt, reply, is_trained, play.rounds))
        return reply.text.strip()
