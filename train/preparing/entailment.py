"""Whether a text proves a statement: the protocol, and an agent who is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from envs.types import Agent, Reply
from train.preparing.identity import identity_of
from train.preparing.wording import Wording

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Claim:
    """A statement, and the text that is said to prove it."""

    text: str
    statement: str


class Entailment(Protocol):
    """Judges claims. Its verdicts are kept under its `identity`: all that they depend on."""

    def check(self, claims: Sequence[Claim]) -> list[Reply]:
        """A verdict on each, in words of its own."""
        ...

    def is_proved(self, verdict: Reply) -> bool | None:
        """What a verdict says; None where it says nothing."""
        ...

    def identity(self) -> Mapping[str, Any]: ...


class AskedEntailment:
    """An agent who is asked for YES or NO: `agent`, or else the writer of the statements."""

    def __init__(self, wording: Wording, writer: Agent, agent: Any = None) -> None:
        self.wording = wording
        self.agent: Agent = writer if agent is None else agent

    def check(self, claims: Sequence[Claim]) -> list[Reply]:
        return self.agent.reply(
            [self.wording.ask("verdict", c.text, statement=c.statement) for c in claims]
        )

    def is_proved(self, verdict: Reply) -> bool | None:
        """By the first word, whatever follows it."""
        first = _WORD.search(verdict.text)
        return {"YES": True, "NO": False}.get(first.group().upper()) if first else None

    def identity(self) -> Mapping[str, Any]:
        asked = {"system": self.wording.system, "verdict": self.wording.verdict}
        return {"asked": asked, "agent": identity_of(self.agent)}
