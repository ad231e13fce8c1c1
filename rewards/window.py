"""What is cut where context, plan and chapter together are longer than a generator can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GivesWay = Literal["plan", "context", "gold", "nothing"]
_CUT = {
    "plan": "the plan loses its end",
    "context": "the context loses its beginning, so that the longest plan allowed fits",
    "gold": "the chapter is scored as far as fits behind the longest plan allowed",
    "nothing": "the run stops",
}


@dataclass(frozen=True)
class Window:
    """Room for `num_tokens` (None: for any number), and the part that gives way where that is full.

    Context and chapter are cut alike for every plan and for the baseline, as far as the longest
    plan that is allowed asks for: attempts at an episode differ in their plan and in nothing else.

    Raises:
        ValueError: context or chapter give way, and no longest plan is set.
    """

    num_tokens: int | None = None
    gives_way: GivesWay = "plan"
    max_plan_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.gives_way in ("context", "gold") and self.max_plan_tokens is None:
            raise ValueError(
                f"generator.gives_way: {self.gives_way} leaves room for the longest plan; say how "
                "long that is by generator.max_plan_tokens"
            )

    def room(self, part: Literal["plan", "context", "gold"], others: int) -> int | None:
        """Tokens that are left for a part beside `others` tokens; None for any number.

        `others` are those of the episode alone: where context or chapter give way, the longest plan
        is kept free as well. A part has no room where the others take more than there is.
        """
        if self.num_tokens is None or self.gives_way != part:
            return None
        reserved = 0 if part == "plan" else self.max_plan_tokens or 0
        return max(0, self.num_tokens - others - reserved)

    def __str__(self) -> str:
        if self.num_tokens is None:
            return "generator's window: any number of tokens"
        return (
            f"generator's window: {self.num_tokens} tokens; where a plan does not fit, "
            f"{_CUT[self.gives_way]} (generator.gives_way={self.gives_way})"
        )
