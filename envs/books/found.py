"""What a reader hands back: a book, and the parts of its file that are not in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.books.errors import BookError
from envs.books.identity import make_book_id
from envs.types import Book, Chapter


@dataclass(frozen=True)
class LeftOut:
    """A part of a file that is in no chapter, and why."""

    part: str
    reason: str


@dataclass(frozen=True)
class FoundBook:
    """A book as one file holds it. `has_own_id` says that the file itself named the book's id."""

    book: Book
    left_out: tuple[LeftOut, ...] = ()
    has_own_id: bool = False


def found_book(
    source: str | Path,
    title: str,
    author: str,
    chapters: Sequence[Chapter],
    left_out: Sequence[LeftOut] = (),
    own_id: str = "",
) -> FoundBook:
    """The book, once it is certain that there is a chapter to predict and one before it."""
    if not chapters:
        raise BookError(
            source, "no chapters were found", "Mark them with headings such as 'Chapter 1'"
        )
    if len(chapters) == 1:
        raise BookError(
            source,
            "this book has one chapter only, so there is no next chapter to predict",
            "Leave it out, or mark its chapters with headings such as 'Chapter 1'",
        )
    book_id = own_id or make_book_id(title, author)
    book = Book(book_id, title, author, tuple(chapters))
    return FoundBook(book, tuple(left_out), has_own_id=bool(own_id))
