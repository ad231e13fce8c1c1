"""Pairwise judgments: which of two texts was preferred, and on what grounds.

The six dimensions, the word for a tie and the columns are those of the published annotations
(Gurung & Lapata 2025), so that their file is read as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

OVERALL = "overall_quality"
DIMENSIONS: tuple[str, ...] = (
    "plot",
    "character",
    "creativity",
    "development",
    "language",
    OVERALL,
)
TIE = "same"
REFUSED, UNCLEAR = "refused", "unclear"
UNANSWERED = ("", REFUSED, UNCLEAR)
"""Answers that count for no option: left out by a person, declined or garbled by a judge."""


@dataclass(frozen=True)
class Judgment:
    """One look of one annotator at two texts, each the work of an option (a model, a method).

    `answers` gives for each dimension the name of an option, `same`, or one of `UNANSWERED`.
    `item` is what both texts were written for (a chapter of a book), and `pair` the two texts:
    annotators with the same `pair` judged the same thing. `annotator` and `first` (the option that
    was shown first) are empty where nobody wrote them down.
    """

    options: tuple[str, str]
    answers: Mapping[str, str]
    item: str
    pair: str
    annotator: str = ""
    first: str = ""
    improvements: tuple[float, float] | None = None
    """Improvement in per cent of each option's plan on this item."""


@dataclass(frozen=True)
class Vote:
    """What one annotator made of one pair on one dimension: the one count that enters a statistic.

    `winner` is an option, `same`, or None where there is no answer to count.
    """

    judgment: Judgment
    winner: str | None


def cast_votes(judgments: Sequence[Judgment], dimension: str) -> list[Vote]:
    """One vote for each annotator and pair.

    Who was asked in both orders has one vote: for the option preferred both times, else for a tie
    (Zheng et al. 2023, section 3.4), and none unless both were answered.
    """
    return [Vote(looks[0], _agreed(looks, dimension)) for looks in looks_by_annotator(judgments)]


def looks_by_annotator(judgments: Sequence[Judgment]) -> Iterator[list[Judgment]]:
    """The looks of one annotator at one pair together; without a name, every look is its own."""
    looks: dict[tuple[str, tuple[str, ...], str], list[Judgment]] = {}
    for number, judgment in enumerate(judgments):
        who = judgment.annotator or f"look {number}"
        key = (judgment.pair, tuple(sorted(judgment.options)), who)
        looks.setdefault(key, []).append(judgment)
    yield from looks.values()


def _agreed(looks: Sequence[Judgment], dimension: str) -> str | None:
    answers = {look.answers[dimension] for look in looks}
    if answers & set(UNANSWERED):
        return None
    return answers.pop() if len(answers) == 1 else TIE
