"""Whether an answer has the form that was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from envs.types import PlanStatus
from rewards.types import Measured


@dataclass(frozen=True)
class Format:
    """1 for an answer that came to its end with a plan and matches `pattern`, else 0.

    It is for forms that a rule should not forbid (`reward.rules` judges missing and truncated plans
    before any term does): a heading, a tag, some reasoning before the plan.
    Source: the format reward of DeepSeek-AI 2025 (R1, arXiv 2501.12948).
    """

    pattern: str | None = None
    """Regular expression, with `.` for any character, to be found in the answer; empty for none."""

    is_exact: ClassVar = True

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(
                f"pattern: {self.pattern!r} is not a regular expression ({error})"
            ) from error

    def __call__(self, group: Sequence[Measured]) -> list[float]:
        return [float(self._is_met(measured)) for measured in group]

    def _is_met(self, measured: Measured) -> bool:
        rollout = measured.rollout
        is_whole = rollout.status is PlanStatus.COMPLETE
        return is_whole and re.search(self.pattern or "", rollout.reply.text, re.DOTALL) is not None
