"""The plainest env: one agent reads the context, reasons, and ends with a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.types import POLICY, Agent, Conversation, Episode, Guidance, Reply, Rollout, Turn

PLANNER = "planner"


@dataclass(frozen=True)
class SoloPlanner:
    """The policy plans alone; its plan becomes the generator's guidance.

    `ask` and `conclude` are the two halves of `play`, for trainers that sample the answers
    themselves.
    """

    prompts: Prompts = field(default_factory=Prompts)
    parser: PlanParser = field(default_factory=PlanParser)

    def play(self, episodes: Sequence[Episode], policy: Agent) -> list[Rollout]:
        replies = policy.reply([self.ask(episode) for episode in episodes])
        return [self.conclude(e, r) for e, r in zip(episodes, replies, strict=True)]

    def ask(self, episode: Episode) -> Conversation:
        return self.prompts.ask_for_plan(episode.context)

    def conclude(self, episode: Episode, reply: Reply) -> Rollout:
        plan, status = self.parser.parse(reply)
        asked = self.ask(episode)
        turn = Turn(PLANNER, POLICY, asked, reply, is_trained=True)
        return Rollout(episode, asked, reply, status, Guidance(plan), (turn,))
