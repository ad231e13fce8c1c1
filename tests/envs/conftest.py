"""Members that say what a test wants, and write down what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from envs.types import Conversation, Reply


class Speaker:
    """Answers with `say` of the last message, one read and one generated token per word."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.asked: list[list[str]] = []

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        from envs.types import Reply, Usage

        prompts = [conversation[-1].content for conversation in conversations]
        self.asked.append(prompts)
        said = [self.say(prompt) for prompt in prompts]
        return [
            Reply(text, usage=Usage(len(prompt.split()), len(text.split())))
            for prompt, text in zip(prompts, said, strict=True)
        ]


@pytest.fixture
def speaker() -> Callable[..., Speaker]:
    """Makes a member that says one text to everything, one text after the other, or by prompt."""

    def make(*texts: str, by: Callable[[str], str] | None = None) -> Speaker:
        left = list(texts)
        return Speaker(by or (lambda _: left.pop(0) if len(left) > 1 else left[0]))

    return make
