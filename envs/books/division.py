"""Chapters as they come in: a collector that both kinds of EPUB and plain texts write into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.books.found import LeftOut
from envs.books.prose import SCENE_BREAK, count_words, join_paragraphs
from envs.types import Chapter

PART_PAGE = "a part's title page; its name stands before its chapters' titles"
NO_PROSE = "no prose"

# A part with this much prose of its own and no chapters in it is read as a chapter.
MIN_WORDS_OF_A_CHAPTER = 200


def with_part(part: str, title: str) -> str:
    """`Book II` and `I: The Stolen Bacillus` make `Book II — I: The Stolen Bacillus`."""
    return " — ".join(filter(None, (part, title)))


@dataclass
class Division:
    """The chapters and the leavings of one book, in reading order."""

    chapters: list[Chapter] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    part: str = ""

    def add_chapter(self, title: str, paragraphs: Sequence[str], in_part: bool = True) -> None:
        text = join_paragraphs(paragraphs)
        full_title = with_part(self.part, title) if in_part else title
        if not text:
            self.leave_out(full_title, NO_PROSE)
            return
        self.chapters.append(Chapter(full_title, text))

    def extend_chapter(self, paragraphs: Sequence[str]) -> None:
        """More of the last chapter, as when a chapter runs over several documents."""
        last = self.chapters.pop()
        self.chapters.append(Chapter(last.title, join_paragraphs([last.text, *paragraphs])))

    def open_part(self, heading: str) -> None:
        self.part = heading
        self.leave_out(heading, PART_PAGE)

    def leave_out(self, part: str, reason: str) -> None:
        if part.strip() and part != SCENE_BREAK:
            self.left_out.append(LeftOut(part, reason))


def words_of(paragraphs: Sequence[str]) -> int:
    return sum(map(count_words, paragraphs))
