"""How far annotators who judged the same pair agree, beyond what chance would give.

Answers about different pairs of options cannot be confused with each other, so chance is taken
within each pair of options (a stratum) and only then pooled. With one stratum these are the
classical coefficients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from train.judging.judgments import Vote

Unit = Sequence[str]
"""The answers of all annotators to one question."""


@dataclass(frozen=True)
class Agreement:
    """Coefficients are 1 for full agreement and 0 for chance; None where they are not defined."""

    num_pairs_shared: int
    """Pairs of texts on which two annotators or more voted."""
    alpha: float | None
    kappas: Mapping[tuple[str, str], tuple[int, float | None]]
    """For every two annotators: how many pairs both judged, and Cohen's kappa."""

    def as_json(self) -> dict[str, Any]:
        return {
            "pairs_shared": self.num_pairs_shared,
            "krippendorff_alpha": self.alpha,
            "cohen_kappa": [
                {"annotators": list(names), "pairs_shared": shared, "kappa": kappa}
                for names, (shared, kappa) in self.kappas.items()
            ],
        }


def agreement(votes: Sequence[Vote]) -> Agreement:
    """Of the votes of one dimension; ties are answers like others, missing answers are not."""
    strata: dict[tuple[str, ...], dict[str, list[Vote]]] = {}
    for vote in votes:
        if vote.winner is not None:
            options = tuple(sorted(vote.judgment.options))
            strata.setdefault(options, {}).setdefault(vote.judgment.pair, []).append(vote)
    units = [[[str(v.winner) for v in about] for about in s.values()] for s in strata.values()]
    names = sorted({v.judgment.annotator for v in votes if v.winner is not None} - {""})
    return Agreement(
        sum(len(unit) > 1 for stratum in units for unit in stratum),
        krippendorff_alpha(units),
        {
            (a, b): (sum(map(len, shared)), cohen_kappa(shared))
            for a, b in combinations(names, 2)
            if any(shared := _answers_of_both(strata.values(), a, b))
        },
    )


def krippendorff_alpha(strata: Iterable[Sequence[Unit]]) -> float | None:
    """Krippendorff's alpha for nominal answers; units of one answer or none do not count.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C.
    """
    observed = expected = 0.0
    for units in strata:
        shared = [unit for unit in units if len(unit) > 1]
        counts = Counter(answer for unit in shared for answer in unit)
        total = counts.total()
        if total:
            observed += sum(_unlike(Counter(unit)) / (len(unit) - 1) for unit in shared)
            expected += _unlike(counts) / (total - 1)
    return 1 - observed / expected if expected else None


def cohen_kappa(strata: Iterable[Sequence[tuple[str, str]]]) -> float | None:
    """Cohen's kappa of two annotators, from their answers to the same questions.

    Source: Cohen 1960; over strata, both shares of agreement are pooled by their sizes.
    """
    agreed = by_chance = total = 0.0
    for answers in strata:
        if answers:
            first, second = (Counter(side) for side in zip(*answers, strict=True))
            agreed += sum(a == b for a, b in answers)
            by_chance += sum(first[answer] * second[answer] for answer in first) / len(answers)
            total += len(answers)
    return (agreed - by_chance) / (total - by_chance) if total > by_chance else None


def _unlike(counts: Counter[str]) -> int:
    """How many ordered pairs of these answers differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def _answers_of_both(
    strata: Iterable[Mapping[str, Sequence[Vote]]], first: str, second: str
) -> list[list[tuple[str, str]]]:
    found = []
    for stratum in strata:
        by_name = [{v.judgment.annotator: str(v.winner) for v in a} for a in stratum.values()]
        both = [(a[first], a[second]) for a in by_name if first in a and second in a]
        found.append(both)
    return found
