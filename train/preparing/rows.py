"""Rows of the published task: what is known before each chapter, and the chapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envs.types import Book, Chapter
from train.preparing.settings import PrepareConfig
from train.preparing.sheets import ChapterCast, sheets

HINDSIGHT = {
    "next_chapter_synopsis": "from the chapter itself",
    "high_level_plot_summary": "from all chapters",
    "next_chapter_header": "the chapter's own heading; readers show it only with hindsight",
    "story_text": "the whole book; readers leave it out of every context",
}


@dataclass(frozen=True)
class BookNotes:
    """What was made of a book. `story_before[i]` and `casts[:i]` know chapters before i alone."""

    book: Book
    story_before: tuple[str, ...]
    casts: tuple[ChapterCast, ...]
    synopses: tuple[str, ...]
    outline: str


def rows_of(notes: BookNotes, config: PrepareConfig) -> list[dict[str, Any]]:
    """A row for each chapter but the first, under the published names."""
    chapters = notes.book.chapters
    whole = "\n\n".join(map(chapter_text, chapters)) if config.include_story_text else ""
    return [
        {
            "story_id": notes.book.book_id,
            "chapter_index": index,
            "prior_plot_summary": notes.story_before[index],
            "character_sheets": sheets(notes.casts[:index], config.sheets),
            "last_n_chapters": _previous(chapters[:index], config.num_previous_chapters),
            "next_chapter_header": chapters[index].title,
            "next_chapter": chapters[index].text,
            "next_chapter_synopsis": notes.synopses[index],
            "high_level_plot_summary": notes.outline,
            "story_text": whole,
        }
        for index in range(1, len(chapters))
    ]


def chapter_text(chapter: Chapter) -> str:
    return "\n\n".join(filter(None, (chapter.title, chapter.text)))


def _previous(before: Sequence[Chapter], count: int) -> str:
    return "\n\n".join(
        map(chapter_text, before[len(before) - count :] if count < len(before) else before)
    )
