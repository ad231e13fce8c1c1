"""Every word that a judge agent reads, and the form in which it has to answer."""

from __future__ import annotations

from dataclasses import dataclass

from envs.types import Conversation, Message
from train.judging.judgments import DIMENSIONS

VERDICT = "VERDICT"
REFUSAL = "REFUSE"

QUESTIONS = {
    "plot": "Which has the better plot: events that follow from the story so far and matter to it?",
    "character": "Which has the better characters: true to themselves, and more than a type?",
    "creativity": "Which is more creative: fresh in what happens and in how it is told?",
    "development": "Which develops people and places further, in more depth and detail?",
    "language": "Which uses language better: varied, vivid and fitting the story?",
    "overall_quality": "Which is better over all?",
}
assert tuple(QUESTIONS) == DIMENSIONS


@dataclass(frozen=True)
class JudgeWording:
    """The wording of a judge's prompt; every field is plain text."""

    system: str = "You are an experienced editor of fiction. You judge fairly and say so briefly."
    """System message; empty for none."""
    kind: str = "next chapter"
    """What the two texts are, such as `next chapter` or `plan for the next chapter`."""
    task: str = (
        "Two writers, A and B, each wrote a {kind} for the story above. Compare them. Neither the "
        "order in which they stand nor their length is a merit. If you see no difference on a "
        "question, say same."
    )

    def conversation(self, context: str, text_a: str, text_b: str) -> Conversation:
        """The prompt for one order of two texts; every prompt differs in its texts alone."""
        user = "\n\n".join(
            (
                f"## The story so far\n{context}",
                f"## {self.kind.capitalize()} by A\n{text_a}",
                f"## {self.kind.capitalize()} by B\n{text_b}",
                "## Your task\n" + self.task.replace("{kind}", self.kind),
                "\n".join(f"{name}: {question}" for name, question in QUESTIONS.items()),
                _FORM,
            )
        )
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", user))


_FORM = "\n".join(
    (
        f"You may think first. Then write the line {VERDICT}, and after it these lines and nothing",
        f"else, each with A, B or same; or, if you will not judge, the one line {REFUSAL}.",
        *(f"{name}: A|B|same" for name in DIMENSIONS),
    )
)
