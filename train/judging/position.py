"""Position bias: whether the text that is shown first wins for being first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.judging.intervals import wilson
from train.judging.judgments import TIE, Judgment, looks_by_annotator


@dataclass(frozen=True)
class PositionBias:
    """Of one dimension. Without bias, the first text wins half of what is decided.

    `in_both_orders` counts the pairs that one annotator judged in both orders by what came of it:
    the same option twice, a tie twice, the first text twice, the second text twice, or a tie once.
    """

    first_won: int
    second_won: int
    num_unknown: int
    """Decided judgments for which nobody wrote down what was shown first."""
    in_both_orders: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        decided = self.first_won + self.second_won
        interval = wilson(self.first_won, decided)
        return {
            "first_won": self.first_won,
            "second_won": self.second_won,
            "share_first": self.first_won / decided if decided else None,
            "share_first_wilson95": interval and list(interval),
            "order_not_recorded": self.num_unknown,
            "in_both_orders": dict(self.in_both_orders),
        }


OUTCOMES = ("same_option", "tie", "first_text", "second_text", "tie_once")


def position_bias(judgments: Sequence[Judgment], dimension: str) -> PositionBias:
    decided = [j for j in judgments if j.answers[dimension] in j.options]
    known = [j for j in decided if j.first]
    first_won = sum(j.answers[dimension] == j.first for j in known)
    found = []
    for looks in looks_by_annotator(judgments):
        shown = {look.first: look.answers[dimension] for look in looks if look.first}
        if len(shown) == 2:
            found.append(_outcome(list(shown.items())))
    both = {outcome: found.count(outcome) for outcome in OUTCOMES}
    return PositionBias(first_won, len(known) - first_won, len(decided) - len(known), both)


def _outcome(looks: Sequence[tuple[str, str]]) -> str | None:
    """What came of two looks, each the option shown first and the answer, if both have one."""
    (first, answer), (_, other) = looks
    options = {shown for shown, _ in looks}
    if not {answer, other} <= options | {TIE}:
        return None
    if answer == other:
        return "tie" if answer == TIE else "same_option"
    if TIE in (answer, other):
        return "tie_once"
    return "first_text" if answer == first else "second_text"
