"""How much of a text stands in another one, counted in trigrams of words."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")
NUM_WORDS = 3

Trigram = tuple[str, ...]


def words(text: str) -> list[str]:
    """The words of a text in lower case, punctuation left out."""
    return _WORD.findall(text.lower())


def trigrams(text: str) -> list[Trigram]:
    """Runs of three words."""
    said = words(text)
    return [tuple(said[i : i + NUM_WORDS]) for i in range(len(said) - NUM_WORDS + 1)]


def seen_share(text: str, source: str) -> float | None:
    """Share of the text's trigrams, each place counted, that stand in the source; in [0, 1].

    None where the text has fewer than three words.
    """
    found = trigrams(text)
    if not found:
        return None
    known = set(trigrams(source))
    return sum(trigram in known for trigram in found) / len(found)


def unseen_share(text: str, source: str) -> float | None:
    """Share of the text's trigrams that do not stand in the source: 0 is a copy.

    Gurung & Lapata 2025 report that it fell from 60.7 to 29.8 % in the reasoning of a 7B model
    while it was trained.
    """
    seen = seen_share(text, source)
    return None if seen is None else 1 - seen
