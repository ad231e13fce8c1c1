"""Every prompt of a preparation, laid out from wording that config states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envs.types import Conversation, Message

# What a task cannot do without.
_SLOTS = {
    "part_summary": ("{words}",),
    "chapter_summary": ("{words}",),
    "story_summary": ("{words}",),
    "synopsis": ("{words}",),
    "outline": ("{words}",),
    "characters": (),
    "statements": ("{name}", "{categories}"),
    "verdict": ("{statement}",),
}
TASKS = tuple(_SLOTS)


@dataclass(frozen=True)
class Wording:
    """The wording of the prompts; `configs/wording/` says what each is for."""

    system: str
    part_summary: str
    chapter_summary: str
    story_summary: str
    synopsis: str
    outline: str
    characters: str
    statements: str
    verdict: str
    categories: Mapping[str, str]
    """What a character sheet tells apart, with what each means."""

    def __post_init__(self) -> None:
        for task, slots in _SLOTS.items():
            missing = [slot for slot in slots if slot not in getattr(self, task)]
            if missing:
                raise ValueError(
                    f"wording.{task}: has no {missing[0]}; write it where that is to be filled in"
                )
        if not self.categories:
            raise ValueError("wording.categories: names none; give at least one with its meaning")

    def ask(self, task: str, text: str, **filled: object) -> Conversation:
        """The text, then the task with its slots filled in."""
        wording = str(getattr(self, task))
        meanings = "\n".join(f"{name}: {what}" for name, what in self.categories.items())
        for slot, value in {"categories": meanings, **filled}.items():
            wording = wording.replace(f"{{{slot}}}", str(value))
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", f"## Text\n{text}\n\n## Task\n{wording}"))
