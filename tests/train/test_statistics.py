"""Intervals resample whole books."""

from __future__ import annotations

import numpy as np
import pytest

from train.statistics import clustered_bootstrap


def test_the_mean_is_over_episodes_not_over_books() -> None:
    interval = clustered_bootstrap([1.0, 2.0, 3.0, 10.0], ["a", "a", "a", "b"], 100)
    assert interval.mean == 4.0


def test_two_books_by_pencil() -> None:
    # The draws are aa, ab, ba, bb: means 1, 2, 2, 3, each of the ends with chance 1/4.
    interval = clustered_bootstrap([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"], 1000)
    assert (interval.mean, interval.ci95) == (2.0, (1.0, 3.0))


def test_a_longer_book_weighs_more_in_every_draw() -> None:
    # Of one chapter and of three: the draws aa, ab, bb have means 1, (1 + 9) / 4 and 3.
    interval = clustered_bootstrap([1.0, 3.0, 3.0, 3.0], ["a", "b", "b", "b"], 1000)
    assert (interval.mean, interval.ci95) == (2.5, (1.0, 3.0))


def test_one_book_has_an_unknown_interval() -> None:
    interval = clustered_bootstrap([1.0, 2.0], ["a", "a"], 100)
    assert (interval.mean, interval.ci95) == (1.5, (-np.inf, np.inf))


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert clustered_bootstrap([0.0] * 6, list("aabbcc"), 100).ci95 == (0.0, 0.0)


def test_values_and_clusters_go_together() -> None:
    for values, clusters in (([1.0], ["a", "b"]), ([], [])):
        with pytest.raises(ValueError, match="one cluster per value, at least one"):
            clustered_bootstrap(values, clusters, 100)


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    # 40 books of 5 alike chapters: book effect and chapter noise of deviation 1, true mean 0.
    rng = np.random.default_rng(0)
    books = [f"{book}" for book in range(40) for _ in range(5)]
    covered, naively_covered, trials = 0, 0, 300
    for _ in range(trials):
        values = np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)
        low, high = clustered_bootstrap(values.tolist(), books, 400).ci95
        covered += low <= 0.0 <= high
        chapters = [str(i) for i in range(200)]
        low, high = clustered_bootstrap(values.tolist(), chapters, 400).ci95
        naively_covered += low <= 0.0 <= high
    # Binomial: 95 % of 300 with a deviation of 3.8; percentile intervals run a little short.
    assert 0.90 <= covered / trials <= 0.98
    # Chapters taken for independent draws give intervals that are too short by far.
    assert naively_covered / trials < 0.85
