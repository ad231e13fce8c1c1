"""Plans that need no labels: the names and the rare words that a chapter uses.

They are in natural language in the plainest sense, a list, and every word in them stands exactly as
it does in the chapter, so that a small generator can learn to look it up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

PARTS = ("names", "words")


@dataclass(frozen=True)
class WordPlan:
    """Names and words that a chapter is said to use, most telling first."""

    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{heading}: {', '.join(listed)}."
            for heading, listed in (("Names", self.names), ("Words", self.words))
            if listed
        ]
        return "\n".join(lines)

    def spoilt(self, part: str, other: WordPlan) -> WordPlan:
        """This plan with one of its `PARTS` taken from another."""
        return replace(self, **{part: getattr(other, part)})

    def thinned(self, other: WordPlan, rng: random.Random) -> WordPlan:
        """Entries left out and entries replaced by another plan's, at rates drawn at random."""
        kept, wrong = rng.random(), rng.random()
        return WordPlan(
            _thinned(self.names, other.names, kept, wrong, rng),
            _thinned(self.words, other.words, kept, wrong, rng),
        )


def _thinned(
    own: Sequence[str], others: Sequence[str], kept: float, wrong: float, rng: random.Random
) -> tuple[str, ...]:
    found: list[str] = []
    for entry in own:
        if rng.random() >= kept:
            continue
        entry = rng.choice(others) if others and rng.random() < wrong else entry
        if entry not in found:
            found.append(entry)
    return tuple(found)
