"""Reading a plan out of an agent's answer."""

from __future__ import annotations

from dataclasses import dataclass

from envs.types import PlanStatus, Reply


@dataclass(frozen=True)
class PlanParser:
    """The plan is what follows the last `marker` of an answer."""

    marker: str = "In summary:"
    whole_answer_without_marker: bool = False
    """The published rule: an answer without the marker is a plan as a whole."""
    min_words: int = 1
    """A shorter plan is no plan: where wrong plans are costly, saying nothing would pay."""

    def parse(self, reply: Reply) -> tuple[str, PlanStatus]:
        """The plan and what became of it; the plan is empty where none was found."""
        _, found, plan = reply.text.rpartition(self.marker)
        plan = plan.strip() if found or self.whole_answer_without_marker else ""
        if len(plan.split()) < self.min_words:
            return "", PlanStatus.NO_PLAN
        return plan, PlanStatus.TRUNCATED if reply.truncated else PlanStatus.COMPLETE
