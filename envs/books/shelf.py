"""A shelf: the books and episodes found in any number of files, each book once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from envs.books.epub import read_epub
from envs.books.errors import BookError
from envs.books.found import FoundBook, LeftOut
from envs.books.gutenberg import read_gutenberg
from envs.books.hub import PREFIX, read_dataset_rows
from envs.books.identity import same_title_and_author, share_text, work_key
from envs.books.jsonl import read_records
from envs.books.published import episodes_from_rows, is_published_row
from envs.books.records import book_from_record
from envs.books.sources import find_sources
from envs.types import Book, Episode

# An id that a file states itself is only shared by two copies of the same text.
_COPY_SHARE = 0.9


@dataclass(frozen=True)
class ShelfEntry:
    """A book as one source holds it. `same_as` is the path of the edition used in its place."""

    path: str
    book: Book
    left_out: tuple[LeftOut, ...] = ()
    same_as: str | None = None


@dataclass(frozen=True)
class EpisodeSource:
    """A source that holds ready episodes instead of books."""

    path: str
    episodes: tuple[Episode, ...]


@dataclass(frozen=True)
class Shelf:
    """What was found, in the order of the paths; `books` have ids that are unique."""

    entries: tuple[ShelfEntry, ...]
    episode_sources: tuple[EpisodeSource, ...] = ()

    @property
    def books(self) -> tuple[Book, ...]:
        return tuple(entry.book for entry in self.entries if entry.same_as is None)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return tuple(chain.from_iterable(source.episodes for source in self.episode_sources))


def read_shelf(paths: Sequence[str | Path]) -> Shelf:
    """Every book in these files, folders and datasets. One bad file is an error that names it."""
    found: list[tuple[str, FoundBook]] = []
    ready: list[EpisodeSource] = []
    for source in find_sources(paths):
        if source.startswith(PREFIX):
            _sort_records(source, read_dataset_rows(source), found, ready)
        elif source.lower().endswith(".jsonl"):
            _sort_records(source, read_records(Path(source)), found, ready)
        elif source.lower().endswith(".epub"):
            found.append((source, read_epub(Path(source))))
        else:
            found.append((source, read_gutenberg(Path(source))))
    _check_episode_ids(ready)
    return Shelf(tuple(_settle(found)), tuple(ready))


def _sort_records(
    source: str,
    records: Iterator[tuple[str, object]],
    found: list[tuple[str, FoundBook]],
    ready: list[EpisodeSource],
) -> None:
    """The first record tells whether a source holds books or published episodes."""
    first = next(records, None)
    if first is None:
        raise BookError(source, "it holds no books", "Give it one book per line or row")
    records = chain([first], records)
    if is_published_row(first[1]):
        ready.append(EpisodeSource(source, tuple(episodes_from_rows(source, records))))
    else:
        found += [(source, book_from_record(source, where, record)) for where, record in records]


def _settle(found: list[tuple[str, FoundBook]]) -> list[ShelfEntry]:
    """Entries in reading order; of two editions of one book the EPUB, else the first, is used."""
    entries = [ShelfEntry(path, each.book, each.left_out) for path, each in found]
    by_id: dict[str, int] = {}
    by_work: dict[tuple[str, str], list[int]] = {}
    order = sorted(range(len(found)), key=lambda n: (not found[n][0].lower().endswith(".epub"), n))
    for number in order:
        book = entries[number].book
        rival = by_id.get(book.book_id)
        if rival is not None and not _one_book(found[rival][1], found[number][1]):
            raise _two_with_one_id(entries[rival], entries[number])
        editions = by_work.setdefault(work_key(book), [])
        same = [rival] if rival is not None else [n for n in editions if _same(entries[n], book)]
        if same:
            entries[number] = replace(entries[number], same_as=entries[same[0]].path)
            continue
        by_id[book.book_id] = number
        editions.append(number)
    return entries


def _same(entry: ShelfEntry, book: Book) -> bool:
    return same_title_and_author(entry.book, book) and share_text(entry.book, book)


def _one_book(one: FoundBook, other: FoundBook) -> bool:
    if one.has_own_id or other.has_own_id:
        return share_text(one.book, other.book, _COPY_SHARE)
    return share_text(one.book, other.book)


def _two_with_one_id(one: ShelfEntry, other: ShelfEntry) -> BookError:
    return BookError(
        other.path,
        f"{other.book.title!r} and {one.book.title!r} in {one.path} are two books with one id, "
        f"{one.book.book_id!r}",
        "Give one of them another title or id",
    )


def _check_episode_ids(ready: list[EpisodeSource]) -> None:
    seen: dict[str, str] = {}
    for source in ready:
        for episode in source.episodes:
            if episode.episode_id in seen:
                raise BookError(
                    source.path,
                    f"episode {episode.episode_id!r} is also in {seen[episode.episode_id]}",
                    "Keep one of the two",
                )
            seen[episode.episode_id] = source.path
