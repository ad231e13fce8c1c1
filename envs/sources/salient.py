"""Which words of a text tell it from others: names, and words that are rare on a shelf of books."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# Letters only: a possessive or a contraction ends at its apostrophe, a compound at its hyphen.
_WORD = re.compile(r"[^\W\d_]+")
_PIECE = re.compile(r"\S+\s*")
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?]+[\"'”’)]*\s+|\n\n+")
_SHORTEST_NAME, _SHORTEST_WORD = 3, 4
# Where a capital cannot be that of a sentence's first word.
_MID_SENTENCE = re.compile(r"[a-zà-ÿ,;] $")
# At a sentence's start, a word is no name if so many stretches of the shelf write it in lower case.
_LOWER_CASE_STRETCHES = 3
_FORMS_OF_ADDRESS = {"Mrs", "Miss", "Sir", "Lord", "Lady", "Madam", "Mister", "Monsieur", "Madame"}


@dataclass(frozen=True)
class Lexicon:
    """In how many of `num_stretches` stretches of text each word stands in lower case."""

    num_stretches: int
    stretches_with: Counter[str]

    @staticmethod
    def of(stretches: Iterable[str]) -> Lexicon:
        counts: Counter[str] = Counter()
        num_stretches = 0
        for stretch in stretches:
            counts.update({word for word in _WORD.findall(stretch) if word.islower()})
            num_stretches += 1
        return Lexicon(num_stretches, counts)

    def rarity(self, word: str) -> float:
        """Inverse document frequency in nats, at least 0; highest for a word never seen."""
        return math.log((1 + self.num_stretches) / (1 + self.stretches_with[word]))

    def name_counts(self, text: str) -> Counter[str]:
        """Names of people and places: words with a capital that no sentence gave them."""
        return Counter(
            match.group()
            for match in _WORD.finditer(text)
            if len(match.group()) >= _SHORTEST_NAME
            and match.group().istitle()
            and match.group() not in _FORMS_OF_ADDRESS
            and self._is_name(match.group(), text[max(0, match.start() - 2) : match.start()])
        )

    def _is_name(self, word: str, before: str) -> bool:
        seldom_lower = self.stretches_with[word.lower()] < _LOWER_CASE_STRETCHES
        return seldom_lower or _MID_SENTENCE.match(before) is not None

    def names(self, text: str) -> list[str]:
        """Names by how often they stand in the text, then by first appearance."""
        return [name for name, _ in self.name_counts(text).most_common()]

    def rare_words(self, text: str, min_stretches: int, max_share: float) -> list[str]:
        """Lower-case words by tf-idf, then by letter.

        Left out are words that fewer than `min_stretches` of the stretches hold (nobody can have
        learned to use them) or more than `max_share` of them (they tell nothing).
        """
        counts = Counter(
            word for word in _WORD.findall(text) if len(word) >= _SHORTEST_WORD and word.islower()
        )
        most = max_share * self.num_stretches
        rare = [word for word in counts if min_stretches <= self.stretches_with[word] <= most]
        return sorted(rare, key=lambda word: (-counts[word] * self.rarity(word), word))


def all_words(text: str) -> set[str]:
    return set(_WORD.findall(text))


def stretches(text: str, num_words: int | None) -> list[str]:
    """The text cut after every `num_words` words, its line breaks kept; None leaves it whole.

    A remainder of less than half that length is left out unless it is all there is.
    """
    pieces = _PIECE.findall(text)
    if num_words is None or len(pieces) <= num_words:
        return ["".join(pieces).strip()] if pieces else []
    starts = range(0, len(pieces), num_words)
    whole = [pieces[start : start + num_words] for start in starts]
    if len(whole[-1]) * 2 < num_words:
        whole.pop()
    return ["".join(each).strip() for each in whole]


def last_words(text: str, num_words: int | None) -> str:
    """The end of the text, its line breaks kept; None leaves it whole."""
    if num_words is None:
        return text
    return "".join(_PIECE.findall(text)[-num_words:] if num_words else []).strip()


def first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.end()].strip() if end else text.strip()
