"""An agent that reads by rule, for tests and for the processes that they start."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envs.types import Conversation, Reply, Usage

# `b0c3x` stands in chapter 3 of book 0 and nowhere else.
MARK = re.compile(r"\bb\d+c\d+x\b")
# A word of each task in configs/wording/fiction.yaml that no other has.
TASKS = {
    "part_summary": "a part of a longer text",
    "chapter_summary": "Retell the chapter",
    "story_summary": "has happened in a novel so far",
    "synopsis": "as a note that its author",
    "outline": "what kind of story it is",
    "characters": "List the people",
    "statements": "Write short statements",
    "verdict": "Does the text above prove",
}


def task_of(conversation: Conversation) -> str:
    said = conversation[-1].content.rpartition("## Task")[2]
    (found,) = [task for task, words in TASKS.items() if words in said]
    return found


@dataclass
class Echo:
    """Repeats every mark of what it reads, so that whatever leaks shows.

    Of every text it makes a statement that the text proves, and one about a book that there is none
    of.
    """

    say: dict[str, Callable[[str], Reply]] = field(default_factory=dict)
    """What it says to a task instead."""
    seconds_per_batch: float = 0.0
    asked: list[Conversation] = field(default_factory=list)

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        time.sleep(self.seconds_per_batch)
        self.asked += conversations
        return [self._one(conversation) for conversation in conversations]

    def identity(self) -> dict[str, object]:
        return {"says": sorted(self.say)}

    def times(self, task: str) -> int:
        return sum(task_of(asked) == task for asked in self.asked)

    def _one(self, conversation: Conversation) -> Reply:
        task, prompt = task_of(conversation), conversation[-1].content
        if task in self.say:
            return self.say[task](prompt)
        text = self._text(task, prompt)
        return Reply(text, usage=Usage(len(prompt.split()), len(text.split())))

    def _text(self, task: str, prompt: str) -> str:
        text, _, asked = prompt.partition("## Task")
        marks = " ".join(dict.fromkeys(MARK.findall(text)))
        if task == "characters":
            return "\n".join(f"- {name}" for name in ("Ann", "Bob", "Zoe") if name in text)
        if task == "statements":
            name = "Ann" if "of Ann" in asked else "Bob"
            return f"goals: {name} wants {marks}.\nknowledge: {name} knows b9c9x."
        if task == "verdict":
            return (
                "YES." if set(MARK.findall(asked)) <= set(MARK.findall(text)) else "No, it is open."
            )
        return f"{marks}."
