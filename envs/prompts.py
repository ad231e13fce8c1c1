"""Every prompt that an agent or the generator reads, laid out from wording that config states.

The generator's prompt is one conversation with a slot for the plan near its end: everything before
the slot is the same for all attempts at an episode, and an empty plan leaves the slot empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.types import Chapter, Conversation, Episode, Message, Section, StoryContext

# Stands where the plan goes while a chat template is applied; no tokenizer ever sees it.
PLAN_SLOT = "\ue000plan\ue000"


@dataclass(frozen=True)
class Prompts:
    """The wording of the prompts. Every field is plain text; an empty field leaves its part out."""

    system: str = ""
    """System message of both conversations."""
    plan_task: str = "Plan the next chapter."
    """What the policy is asked to do, after the context."""
    write_task: str = "Write the next chapter."
    """What the generator is asked to do, before the context."""
    plan_heading: str = "Plan"
    """Heading over the plan in the generator's prompt."""
    plan_marker: str = "In summary:"
    """What the policy writes before its plan; the text behind the last one is the plan."""
    plan_pattern: str | None = None
    """Regular expression that says what a plan has to hold; empty where any text is a plan."""
    tasks: Mapping[str, str] = field(default_factory=dict)
    """What each role of a collaboration is asked to do, after the context and what it is shown of
    the others; a role that is not among them is asked for a plan."""
    include_hindsight: bool = False
    """Show context sections that were made from the gold chapter or later."""

    def ask_for_plan(self, context: StoryContext) -> Conversation:
        """The policy's prompt: the context, then the task."""
        return self._conversation(_join(self.render(context), self.plan_task))

    def ask_role(
        self, task: str, context: StoryContext, shown: Sequence[Section] = ()
    ) -> Conversation:
        """A role's prompt: the context, what it is shown of the others' work, then its task.

        `debater_2` has the task of `debater`, where there is none of its own.
        """
        stem = task.rstrip("0123456789").removesuffix("_")
        wording = self.tasks.get(task, self.tasks.get(stem, self.plan_task))
        work = (f"## {section.heading}\n{section.text}" for section in shown)
        return self._conversation(_join(self.render(context), *work, wording))

    def ask_for_chapter(self, context: StoryContext) -> Conversation:
        """The generator's prompt with `PLAN_SLOT` where `plan_section` goes."""
        return self._conversation(_join(self.write_task, self.render(context)) + PLAN_SLOT)

    def plan_section(self, plan: str) -> str:
        """What fills the slot: nothing at all where there is no plan."""
        return f"\n\n## {self.plan_heading}\n{plan}" if plan else ""

    def render(self, context: StoryContext) -> str:
        shown = context if self.include_hindsight else context.known_before()
        return _join(*(f"## {s.heading}\n{s.text}" for s in shown.sections))

    def _conversation(self, user: str) -> Conversation:
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", user))


def gold_text(chapter: Chapter) -> str:
    """y: the chapter's heading, where it has one, and its prose."""
    return _join(chapter.title, chapter.text)


def prompt_leaks(conversation: Conversation, episode: Episode, num_words: int = 15) -> list[str]:
    """Runs of `num_words` words of the gold chapter that stand in a prompt: text of y.

    Shorter runs are phrases that a book uses again and again.
    """
    prompt = set(_runs("\n".join(m.content for m in conversation), num_words))
    return [run for run in _runs(episode.chapter.text, num_words) if run in prompt]


def _runs(text: str, num_words: int) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + num_words]) for i in range(len(words) - num_words + 1)]


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
