"""Improvement by genre, place in the book, and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envs.types import Episode
from train.analysis.breakdown import breakdown, read_genres, thirds

MakeEpisode = Callable[..., Episode]


def test_thirds_keep_equal_values_together() -> None:
    assert list(thirds([5, 1, 9, 2, 8, 6])) == [("1–2", [1, 3]), ("5–6", [0, 5]), ("8–9", [2, 4])]
    assert list(thirds([7, 7, 7])) == [("7", [0, 1, 2])]


def test_the_parts_of_a_table_have_their_own_means(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"{book}/{i}") for book in ("emma", "ulysses") for i in (1, 2, 3)]
    genres = {"emma": ["romance", "comedy"], "other": ["crime"]}
    parts = breakdown(episodes, [1.0, 2.0, 3.0, 7.0, 8.0, 9.0], genres, 100)
    means = {(p.by, p.label): p.improvement.mean for p in parts}
    assert means == {
        ("genre", "comedy"): 2.0,
        ("genre", "romance"): 2.0,
        ("genre", "unknown"): 8.0,
        ("chapter", "1"): 4.0,
        ("chapter", "2"): 5.0,
        ("chapter", "3"): 6.0,
        ("words", "10"): 5.0,
        ("book", "emma"): 2.0,
        ("book", "ulysses"): 8.0,
    }
    # A genre of one book has no interval over books.
    assert parts[0].as_json()["ci95"] == [None, None]
    assert "genre" not in {p.by for p in breakdown(episodes, [0.0] * 6, {}, 100)}


def test_an_episode_that_is_part_of_a_chapter_counts_for_that_chapter(
    make_episode: MakeEpisode,
) -> None:
    episodes = [make_episode("emma/3"), make_episode("emma/3.2")]
    labels = [p.label for p in breakdown(episodes, [0.0, 0.0], {}, 100) if p.by == "chapter"]
    assert labels == ["3"]


def test_genres_come_from_a_csv_with_a_line_for_each(tmp_path: Path) -> None:
    path = tmp_path / "genres.csv"
    path.write_text("genre,book\nromance,emma\ncomedy,emma\n")
    assert read_genres(path) == {"emma": ["romance", "comedy"]}
    assert read_genres(None) == {}
    path.write_text("title,genre\nEmma,romance\n")
    with pytest.raises(ValueError, match="has no column 'book'"):
        read_genres(path)
