"""ROUGE-L: how much of one text stands in another in the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rewards.monitors.copying import words


@dataclass(frozen=True)
class RougeL:
    """Shares in [0, 1] of the words of the text (precision) and of the reference (recall)."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def rouge_l(text: str, reference: str) -> RougeL:
    """Of the longest common subsequence of words, in lower case and without punctuation.

    No stemming. Source: Lin 2004, section 3; equal to the package rouge-score on English text,
    which is not used because it has had no release since 2022 and takes quadratic Python time.
    """
    said, expected = words(text), words(reference)
    if not said or not expected:
        return RougeL(0.0, 0.0)
    length = longest_common_subsequence(said, expected)
    return RougeL(length / len(said), length / len(expected))


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length. A row of the usual table is one integer, a bit for each word of the shorter text.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    short, long = sorted((first, second), key=len)
    places: dict[str, int] = defaultdict(int)
    for place, word in enumerate(short):
        places[word] |= 1 << place
    all_bits = (1 << len(short)) - 1
    row = all_bits
    for word in long:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_bits
    return len(short) - row.bit_count()
