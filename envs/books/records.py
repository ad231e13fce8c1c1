"""One record with a book's title, author and chapters, from a JSONL line or a dataset's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.books.errors import BookError
from envs.books.found import FoundBook, found_book
from envs.books.prose import join_paragraphs
from envs.types import Chapter

_SHAPE = (
    'Give each book as {"id"?, "title", "author", "chapters": [{"title", "text"} or "text", ...]}'
)


def book_from_record(source: str, where: str, record: object) -> FoundBook:
    """The book in a record; `where` says which one of the source it is, such as `line 3`."""
    if not isinstance(record, Mapping) or "chapters" not in record:
        fields = sorted(map(str, record)) if isinstance(record, Mapping) else type(record).__name__
        raise BookError(source, f"{where} has no 'chapters' but {fields}", _SHAPE)
    place = f"{source} ({where})"
    chapters = record["chapters"]
    if not isinstance(chapters, list):
        raise BookError(place, f"'chapters' is a {type(chapters).__name__}, not a list", _SHAPE)
    title = _text_field(record, "title", place)
    if not title:
        raise BookError(place, "the book has no 'title'", _SHAPE)
    return found_book(
        place,
        title,
        _text_field(record, "author", place),
        [_chapter(chapter, number, place) for number, chapter in enumerate(chapters, 1)],
        own_id=_text_field(record, "id", place),
    )


def _chapter(chapter: object, number: int, place: str) -> Chapter:
    title = ""
    text: Any = chapter
    if isinstance(chapter, Mapping):
        title, text = _text_field(chapter, "title", place), chapter.get("text")
    if not isinstance(text, str):
        raise BookError(place, f"chapter {number} has no text but {type(text).__name__}", _SHAPE)
    prose = join_paragraphs(text.replace("\r\n", "\n").split("\n\n"))
    if not prose:
        raise BookError(place, f"chapter {number} is empty", "Give it text or leave it out")
    return Chapter(title, prose)


def _text_field(record: Mapping[Any, Any], name: str, place: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise BookError(place, f"{name!r} is a {type(value).__name__}, not text", _SHAPE)
    return str(value).strip()
