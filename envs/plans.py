"""Reading a plan out of an agent's answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envs.types import PlanStatus, Reply


@dataclass(frozen=True)
class PlanParser:
    """The plan is what follows the last `marker` of an answer."""

    marker: str = "In summary:"
    whole_answer_without_marker: bool = False
    """The published rule: an answer without the marker is a plan as a whole."""
    pattern: str | None = None
    """Regular expression that a plan has to match; what does not is no plan. Without it, where
    wrong guesses cost more than silence, a policy learns to leave parts out."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(
                f"env.parser.pattern: {self.pattern!r} is not a regular expression ({error})"
            ) from error

    def parse(self, reply: Reply) -> tuple[str, PlanStatus]:
        """The plan and what became of it; the plan is empty where none was found."""
        _, found, plan = reply.text.rpartition(self.marker)
        plan = plan.strip() if found or self.whole_answer_without_marker else ""
        if not plan or (self.pattern and not re.search(self.pattern, plan, re.DOTALL)):
            return "", PlanStatus.NO_PLAN
        return plan, PlanStatus.TRUNCATED if reply.truncated else PlanStatus.COMPLETE
