"""Texts cut into pieces that are read at once, and answers cut to whole sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# Each with what ends it: paragraphs, sentences, words.
_UNITS = (
    re.compile(r".+?(?:\n\s*\n+|$)", re.DOTALL),
    re.compile(
        r".+?(?:(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?]+[\"'”’)]*(?:\s+|$)|$)", re.DOTALL
    ),
    re.compile(r"\S+\s*"),
)
_SENTENCE = 1
# What a window cannot hold at this length, it does not hold at all.
_SHORTEST_PIECE_WORDS = 20


def cut(text: str, max_words: int, fits: Callable[[str], bool] = lambda piece: True) -> list[str]:
    """The text in pieces of at most `max_words` that fit, cut between paragraphs where it can be.

    Together the pieces are the text, but for white space between them.

    Raises:
        ValueError: not even a few words fit.
    """
    pieces: list[str] = []
    for packed in _pack(_units(text, max_words), max_words):
        piece = packed.strip()
        if fits(piece):
            pieces.append(piece)
        elif max_words <= _SHORTEST_PIECE_WORDS:
            raise ValueError(
                f"agent: its window does not hold a prompt with {_SHORTEST_PIECE_WORDS} words of "
                "text and an answer; lower agent.sampling.max_new_tokens, or take another model"
            )
        else:
            half = max(_SHORTEST_PIECE_WORDS, min(max_words, len(piece.split())) // 2)
            pieces += cut(piece, half, fits)
    return [piece for piece in pieces if piece]


def whole_sentences(text: str, max_words: int) -> str:
    """The first sentences that together have at most `max_words`; of a longer one, its beginning.

    A sentence without an end is left out, unless it is the only one.
    """
    sentences = [found.group() for found in _UNITS[_SENTENCE].finditer(text.strip())]
    if len(sentences) > 1 and not re.search(r"[.!?][\"'”’)]*\s*$", sentences[-1]):
        sentences.pop()
    kept, left = "", max_words
    for sentence in sentences:
        left -= len(sentence.split())
        if left < 0:
            break
        kept += sentence
    return kept.strip() or " ".join(text.split()[:max_words])


def _units(text: str, max_words: int, level: int = 0) -> list[str]:
    """Paragraphs; of one that is too long its sentences, and of such a sentence its words."""
    found = [match.group() for match in _UNITS[level].finditer(text)]
    return [
        unit
        for whole in found
        for unit in (
            [whole]
            if len(whole.split()) <= max_words or level + 1 == len(_UNITS)
            else _units(whole, max_words, level + 1)
        )
    ]


def _pack(units: Sequence[str], max_words: int) -> list[str]:
    packed: list[str] = []
    room = 0
    for unit in units:
        num_words = len(unit.split())
        if packed and num_words <= room:
            packed[-1] += unit
        else:
            packed.append(unit)
            room = max_words
        room -= num_words
    return packed
