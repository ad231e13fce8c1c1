"""Improvement by genre, by place in the book and by length of the chapter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from envs.types import Episode
from train.judging.rows import read_rows
from train.statistics import Interval, clustered_bootstrap

By = Literal["genre", "chapter", "words", "book"]
NUM_PARTS = 3
UNKNOWN_GENRE = "unknown"
COLUMNS = ("book", "genre")


@dataclass(frozen=True)
class Part:
    """The episodes of one row that have something in common, such as a genre."""

    by: By
    label: str
    improvement: Interval
    num_episodes: int
    num_books: int

    def as_json(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "label": self.label,
            **self.improvement.as_json(),
            "episodes": self.num_episodes,
            "books": self.num_books,
        }


def breakdown(
    episodes: Sequence[Episode],
    improvements: Sequence[float],
    genres: Mapping[str, Sequence[str]],
    num_samples: int,
) -> tuple[Part, ...]:
    """Intervals for the parts of a set of episodes; genres are left out where none are known.

    A book may have several genres. Chapters and lengths come in thirds, which equal values share.
    """
    return tuple(
        Part(
            by,
            label,
            clustered_bootstrap(
                [improvements[i] for i in places],
                [episodes[i].book_id for i in places],
                num_samples,
            ),
            len(places),
            len({episodes[i].book_id for i in places}),
        )
        for by, label, places in _parts(episodes, genres)
    )


def _parts(
    episodes: Sequence[Episode], genres: Mapping[str, Sequence[str]]
) -> Iterator[tuple[By, str, list[int]]]:
    by_book: dict[str, list[int]] = defaultdict(list)
    for i, episode in enumerate(episodes):
        by_book[episode.book_id].append(i)
    if genres:
        by_genre: dict[str, list[int]] = defaultdict(list)
        for book, places in by_book.items():
            for genre in genres.get(book, (UNKNOWN_GENRE,)):
                by_genre[genre] += places
        for genre in sorted(by_genre):
            yield "genre", genre, by_genre[genre]
    # An episode may be a part of a chapter: `emma/3.2`.
    indices = [int(e.episode_id.rsplit("/", 1)[1].partition(".")[0]) for e in episodes]
    for label, places in thirds(indices):
        yield "chapter", label, places
    for label, places in thirds([episode.chapter.num_words for episode in episodes]):
        yield "words", label, places
    for book, places in by_book.items():
        yield "book", book, places


def thirds(values: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Label and places of the low, middle and high values; equal values stay together."""
    edges = np.quantile(np.asarray(values), [i / NUM_PARTS for i in range(1, NUM_PARTS)])
    part = np.searchsorted(edges, np.asarray(values), side="left")
    for number in range(NUM_PARTS):
        places = np.flatnonzero(part == number).tolist()
        if places:
            low, high = min(values[i] for i in places), max(values[i] for i in places)
            yield (str(low) if low == high else f"{low}–{high}"), places


def read_genres(path: Path | None) -> dict[str, list[str]]:
    """Genres by book id, from a CSV with a line for each book and genre.

    Raises:
        ValueError: the file is not such a CSV.
    """
    if path is None:
        return {}
    columns, rows = read_rows(path)
    if missing := [column for column in COLUMNS if column not in columns]:
        raise ValueError(
            f"evaluation.genres: {path} has no column '{missing[0]}' (it has "
            f"{', '.join(columns)}); it should have {' and '.join(COLUMNS)}"
        )
    found: dict[str, list[str]] = defaultdict(list)
    for _, row in rows:
        found[row["book"]].append(row["genre"])
    return dict(found)
