"""What a policy says, the same in every process of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence

from envs.types import Agent, Conversation, Reply
from train import ranks


class AgreedAgent:
    """Answers with what `agent` answers in the main process.

    Every process asks its own, since a policy whose weights are spread over them wants all of them
    for every pass. On GPUs two of them need not round alike, and answers that differ would lead
    them to ask for different passes, and to wait for each other for ever.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        replies = self.agent.reply(conversations)
        agreed = ranks.from_main(lambda: json.dumps([[r.text, r.truncated] for r in replies]))
        return [Reply(text, truncated) for text, truncated in json.loads(agreed)]
