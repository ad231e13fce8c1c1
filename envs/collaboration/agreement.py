"""How far texts say the same: by their words, without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

_WORD = re.compile(r"\w+")


def words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def overlap(one: str, other: str) -> float:
    """Words that both have, as a share of those that either has: 0 to 1, and 0 without words."""
    ours, theirs = words(one), words(other)
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def agreement(texts: Sequence[str]) -> float:
    """Mean overlap of every two of the texts; 1 for one text alone."""
    pairs = list(combinations(texts, 2))
    return fmean(overlap(*pair) for pair in pairs) if pairs else 1.0


def vote(texts: Sequence[str]) -> int:
    """The place of the text that most others repeat in the same words; then of the one that is
    closest to all others, then of the first.

    An empty text has no vote and gets none, unless all are empty.
    """
    said = [words(text) for text in texts]

    def support(place: int) -> tuple[bool, int, float]:
        same = sum(other == said[place] for other in said)
        closeness = sum(overlap(texts[place], text) for text in texts)
        return bool(said[place]), same, closeness

    return max(range(len(texts)), key=support)
