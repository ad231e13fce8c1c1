"""Whether the difference of two rows is more than chance, by books."""

from __future__ import annotations

import math

import pytest

from train.analysis.paired import Measurements, compare, holm, sign_flip_p_value


def test_five_books_that_all_agree_have_two_of_32_ways_to_be_as_far_apart() -> None:
    assert sign_flip_p_value([1.0, 2.0, 3.0, 4.0, 5.0], list("abcde"), 100) == 2 / 32


def test_the_chapters_of_a_book_flip_together() -> None:
    # Ten chapters of two books say no more than two books: 2 of 4 ways.
    assert sign_flip_p_value([1.0] * 10, ["a", "b"] * 5, 100) == 0.5
    assert sign_flip_p_value([1.0] * 10, ["a"] * 10, 100) == 1.0


def test_one_book_against_two_of_its_size_is_no_difference() -> None:
    # Sums -3, 1, 2: all but nothing of the 8 ways reach |0|.
    assert sign_flip_p_value([-3.0, 1.0, 2.0], list("abc"), 100) == 1.0
    # Sums 3, -1, 2 come to 4; reached by +++ 4 and its kin: |±3±1±2| ≥ 4 in 4 of 8 ways.
    assert sign_flip_p_value([3.0, -1.0, 2.0], list("abc"), 100) == 4 / 8


def test_the_p_value_is_that_of_the_usual_package() -> None:
    # scipy 1.17, stats.permutation_test(permutation_type="samples") of the mean.
    differences = [0.7, -0.2, 1.9, 0.4, -0.9, 2.2, 0.3]
    assert sign_flip_p_value(differences, list("abcdefg"), 100) == 0.21875


def test_many_books_are_drawn_and_agree_with_the_normal_law() -> None:
    # 400 books of ±1 with 230 to 170: z = 60 / 20 = 3, two-sided p = 0.0027.
    signs = [1.0] * 230 + [-1.0] * 170
    books = [str(i) for i in range(400)]
    expected = math.erfc(3 / math.sqrt(2))
    assert sign_flip_p_value(signs, books, 40_000) == pytest.approx(expected, abs=0.001)


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    # 0.01·4, 0.02·3, then 0.03·2 = 0.06 and 0.04·1 is lifted to 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_agents_are_compared_with_each_other_and_with_controls() -> None:
    rows = [
        Measurements("untrained greedy", "greedy", (0.0, 0.0, 0.0, 0.0)),
        Measurements("untrained sampled", "sampled", (0.0, 0.0, 0.0, 0.0)),
        Measurements("trained greedy", "greedy", (1.0, 1.0, 2.0, 0.0)),
        Measurements("trained sampled", "sampled", (2.0, 2.0, 2.0, 2.0)),
        Measurements("empty_plan", None, (0.0, 0.0, 0.0, 0.0)),
    ]
    found = compare(rows, list("abcd"), 100)
    assert [(c.first, c.second) for c in found] == [
        ("trained greedy", "untrained greedy"),
        ("trained sampled", "untrained sampled"),
        *((row.label, "empty_plan") for row in rows[:4]),
    ]
    greedy, sampled = found[:2]
    assert greedy.difference.mean == 1.0
    # Three of four episodes are ahead, and one is tied.
    assert greedy.share_ahead == 0.875
    # Sums 1, 1, 2, 0 all point one way, and 0 has no sign: 4 of 16 ways; 2, 2, 2, 2: 2 of 16.
    assert (greedy.p_value, sampled.p_value) == (4 / 16, 2 / 16)
    # Of two comparisons between agents: 2 · 2/16, and that is no less than 4/16.
    assert (greedy.p_holm, sampled.p_holm) == (4 / 16, 4 / 16)
    # Of four with the control.
    assert [c.p_holm for c in found[2:]] == [1.0, 1.0, 12 / 16, 8 / 16]
    assert greedy.as_json()["difference"]["mean"] == 1.0
