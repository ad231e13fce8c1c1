"""From books to rows: every chapter is read once, and each row knows only what came before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from envs.types import Book
from train.preparing.desk import Desk
from train.preparing.entailment import Claim, Entailment
from train.preparing.rows import BookNotes, rows_of
from train.preparing.scribe import Scribe
from train.preparing.settings import PrepareConfig
from train.preparing.sheets import ChapterCast, read_chapters


@dataclass(frozen=True)
class Preparation:
    """Those who read and judge, and what they are to make."""

    scribe: Scribe
    checks: Desk[Claim]
    entailment: Entailment
    config: PrepareConfig
    statements: Counter[str] = field(default_factory=Counter)
    """What became of the statements: `written`, `kept`, `dropped`, `unclear` and others."""

    def rows(self, books: Sequence[Book]) -> list[list[dict[str, Any]]]:
        """The rows of each book. All books go on together, so that calls are batched."""
        pieces = [[self.scribe.pieces(c.text) for c in book.chapters] for book in books]
        summaries = self._chapter_summaries(books, pieces)
        befores = self._stories_before(books, summaries)
        casts = self._casts(pieces)
        synopses = self._synopses(pieces)
        outlines = self._outlines(books, summaries)
        return [
            rows_of(BookNotes(book, before, cast, synopsis, outline), self.config)
            for book, before, cast, synopsis, outline in zip(
                books, befores, casts, synopses, outlines, strict=True
            )
        ]

    def _chapter_summaries(
        self, books: Sequence[Book], pieces: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[str]]:
        """Of every chapter that something is made from: no row comes after the last one."""
        last = None if self.config.hindsight.outline else -1
        jobs = [parts for own in pieces for parts in own[:last]]
        found = iter(
            self.scribe.condense("chapter_summary", jobs, self.config.lengths.chapter_summary)
        )
        return [list(islice(found, len(book.chapters[:last]))) for book in books]

    def _stories_before(
        self, books: Sequence[Book], summaries: Sequence[Sequence[str]]
    ) -> list[tuple[str, ...]]:
        """What happened before each chapter; nothing before the first."""
        limit = self.config.lengths.story_summary
        parts = [
            [told[:index] for index in range(len(book.chapters))]
            for book, own in zip(books, summaries, strict=True)
            for told in [_with_titles(book, own)]
        ]
        flat = [before for of_book in parts for before in of_book]
        is_long = [sum(len(part.split()) for part in before) > limit for before in flat]
        jobs = [before for before, long in zip(flat, is_long, strict=True) if long]
        condensed = iter(self.scribe.condense("story_summary", jobs, limit))
        told = iter(
            [
                next(condensed) if long else "\n\n".join(filter(None, before))
                for before, long in zip(flat, is_long, strict=True)
            ]
        )
        return [tuple(islice(told, len(book.chapters))) for book in books]

    def _casts(self, pieces: Sequence[Sequence[Sequence[str]]]) -> list[tuple[ChapterCast, ...]]:
        if not self.config.sheets.num_characters:
            return [() for _ in pieces]
        found = iter(
            read_chapters(
                [parts for own in pieces for parts in own[:-1]],
                self.scribe,
                self.checks,
                self.entailment,
                self.config.sheets,
                self.statements,
            )
        )
        return [tuple(islice(found, len(own) - 1)) for own in pieces]

    def _synopses(self, pieces: Sequence[Sequence[Sequence[str]]]) -> list[tuple[str, ...]]:
        """Hindsight: of every chapter but the first, which no row is about."""
        if not self.config.hindsight.synopsis:
            return [("",) * len(own) for own in pieces]
        jobs = [parts for own in pieces for parts in own[1:]]
        found = iter(self.scribe.condense("synopsis", jobs, self.config.lengths.synopsis))
        return [("", *islice(found, len(own) - 1)) for own in pieces]

    def _outlines(self, books: Sequence[Book], summaries: Sequence[Sequence[str]]) -> list[str]:
        """Hindsight: from all chapters."""
        if not self.config.hindsight.outline:
            return [""] * len(books)
        jobs = [_with_titles(book, own) for book, own in zip(books, summaries, strict=True)]
        return self.scribe.condense("outline", jobs, self.config.lengths.outline)


def _with_titles(book: Book, summaries: Sequence[str]) -> list[str]:
    """The summaries with the headings of their chapters; nothing where there is none."""
    return [
        f"{chapter.title or f'Chapter {number}'}: {summary}" if summary else ""
        for number, (chapter, summary) in enumerate(zip(book.chapters, summaries, strict=False), 1)
    ]
