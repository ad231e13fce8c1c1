"""What an answer is worth by whether it holds a plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StatusRules:
    """What each plan status is worth: `score` for its improvement, or a fixed reward.

    A malformed answer has to be worth less than a wrong plan, or silence beats an honest try.
    """

    complete: float | str = "score"
    truncated: float | str = "score"
    no_plan: float | str = 0.0

    def __post_init__(self) -> None:
        for status, rule in vars(self).items():
            if isinstance(rule, str) and rule != "score":
                raise ValueError(
                    f"reward.rules.{status} must be a number or 'score'; got {rule!r}."
                )
