"""What was found on a shelf, for people (a table) and for machines (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from envs.books.found import LeftOut
from envs.books.shelf import Shelf
from envs.types import Chapter

_MAX_PARTS_NAMED = 3


@dataclass(frozen=True)
class _Row:
    path: str
    title: str
    author: str
    chapters: Sequence[Chapter]
    left_out: Sequence[LeftOut]

    @property
    def num_words(self) -> int:
        return sum(chapter.num_words for chapter in self.chapters)


def as_json(shelf: Shelf) -> list[dict[str, Any]]:
    """One object per book: path, title, author, chapters with their words, and what was left out.

    A book of which another edition is used is listed too, as left out whole.
    """
    return [
        {
            "path": row.path,
            "title": row.title,
            "author": row.author,
            "chapters": [{"title": c.title, "words": c.num_words} for c in row.chapters],
            "left_out": [{"part": part.part, "reason": part.reason} for part in row.left_out],
        }
        for row in _rows(shelf)
    ]


def as_table(shelf: Shelf) -> Table:
    table = Table(title=f"{len(shelf.books)} books", show_lines=True)
    table.add_column("Book", overflow="fold")
    table.add_column("Author", overflow="fold")
    table.add_column("Chapters", justify="right")
    table.add_column("Words", justify="right")
    table.add_column("Left out, and why", overflow="fold")
    for row in _rows(shelf):
        # Text, not markup: a title may hold square brackets.
        table.add_row(
            Text(row.title).append(f"\n{row.path}", style="dim"),
            Text(row.author),
            str(len(row.chapters)),
            f"{row.num_words:,}",
            Text("\n".join(_by_reason(row.left_out))),
        )
    return table


def _rows(shelf: Shelf) -> list[_Row]:
    rows = []
    for entry in shelf.entries:
        whole = [LeftOut("whole book", f"same book as {entry.same_as}")] if entry.same_as else []
        book, left_out = entry.book, [*whole, *entry.left_out]
        rows.append(_Row(entry.path, book.title, book.author, book.chapters, left_out))
    for source in shelf.episode_sources:
        stories: dict[str, list[Chapter]] = {}
        for episode in source.episodes:
            stories.setdefault(episode.book_id, []).append(episode.chapter)
        rows += [_Row(source.path, story, "", found, ()) for story, found in stories.items()]
    return rows


def _by_reason(left_out: Sequence[LeftOut]) -> list[str]:
    parts: dict[str, list[str]] = {}
    for part in left_out:
        parts.setdefault(part.reason, []).append(part.part)
    return [f"{_shortened(names)}: {reason}" for reason, names in parts.items()]


def _shortened(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_PARTS_NAMED
    named = ", ".join(names[:_MAX_PARTS_NAMED])
    return f"{named} and {rest} more" if rest > 0 else named
