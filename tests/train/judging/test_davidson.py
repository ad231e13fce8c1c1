"""Strengths with ties against closed forms, the likelihood equations and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from train.judging.bradley_terry import bradley_terry
from train.judging.davidson import davidson, has_finite_davidson

# Overall preferences of the published 7B judgments, and their ties: trained, untrained reasoning,
# no reasoning and SFT; in row i and column j how often i was preferred over j.
PUBLISHED_WINS = np.array([[0, 11, 13, 18], [6, 0, 12, 15], [4, 6, 0, 17], [2, 3, 3, 0]], float)
PUBLISHED_TIES = np.array([[0, 3, 3, 0], [3, 0, 2, 2], [3, 2, 0, 0], [0, 2, 0, 0]], float)


def all_compared(num_options: int) -> np.ndarray:
    return ~np.eye(num_options, dtype=bool)


def of_two(wins: float, losses: float, ties: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[[0, wins], [losses, 0]]], float), np.array([[[0, ties], [ties, 0]]], float)


def test_davidson_of_two_options_by_pencil() -> None:
    # 6 wins, 2 losses, 4 ties: s = 3/4 and 1/4, v = 4 / sqrt(6 * 2).
    strengths, weight = davidson(*of_two(6, 2, 4), all_compared(2))
    assert strengths[0] == pytest.approx([0.75, 0.25], abs=1e-7)
    assert weight[0] == pytest.approx(4 / np.sqrt(12), abs=1e-6)


def test_davidson_without_ties_is_bradley_terry() -> None:
    no_ties = np.zeros_like(PUBLISHED_WINS[None])
    strengths, weight = davidson(PUBLISHED_WINS[None], no_ties, all_compared(4))
    assert strengths == pytest.approx(
        bradley_terry(PUBLISHED_WINS[None], all_compared(4)), abs=1e-6
    )
    assert weight[0] == 0


def test_davidson_foretells_every_options_points_and_the_number_of_ties() -> None:
    # Its likelihood equations, a tie being half a point (Davidson 1970).
    (s,), (v,) = davidson(PUBLISHED_WINS[None], PUBLISHED_TIES[None], all_compared(4))
    votes = PUBLISHED_WINS + PUBLISHED_WINS.T + PUBLISHED_TIES
    roots = np.sqrt(np.outer(s, s))
    all_chances = s[:, None] + s[None, :] + v * roots
    points = votes * (s[:, None] + v * roots / 2) / all_chances
    assert points.sum(1) == pytest.approx((PUBLISHED_WINS + PUBLISHED_TIES / 2).sum(1), abs=1e-5)
    foretold_ties = (votes * v * roots / all_chances).sum() / 2
    assert foretold_ties == pytest.approx(PUBLISHED_TIES.sum() / 2, abs=1e-5)


def simulated(
    strengths: np.ndarray, tie_weight: float, votes_per_pair: int
) -> tuple[np.ndarray, np.ndarray]:
    """Wins and ties of every pair, drawn from the model."""
    rng = np.random.default_rng(0)
    wins, ties = np.zeros((2, len(strengths), len(strengths)))
    for i in range(len(strengths)):
        for j in range(i):
            tie = tie_weight * np.sqrt(strengths[i] * strengths[j])
            chances = np.array([strengths[i], strengths[j], tie])
            drawn = rng.multinomial(votes_per_pair, chances / chances.sum())
            wins[i, j], wins[j, i], ties[i, j] = drawn
            ties[j, i] = ties[i, j]
    return wins, ties


def test_simulated_strengths_and_tie_weight_are_recovered() -> None:
    true = np.array([0.6, 0.3, 0.1])
    wins, ties = simulated(true, 0.5, votes_per_pair=100_000)
    strengths, weight = davidson(wins[None], ties[None], all_compared(3))
    assert strengths[0] == pytest.approx(true, abs=0.005)
    assert weight[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "is_finite"),
    [
        (6, 2, 4, True),
        (6, 2, 0, True),
        # A tie beside wins of one side alone: both strength and v grow without end.
        (1, 0, 3, False),
        (3, 0, 0, False),
        (0, 0, 3, False),
    ],
)
def test_two_options_are_finite_where_both_won(
    wins: int, losses: int, ties: int, is_finite: bool
) -> None:
    assert has_finite_davidson(*of_two(wins, losses, ties)).tolist() == [is_finite]


def test_a_circle_with_more_wins_than_ties_is_finite() -> None:
    wins = np.array([[[0, 1, 0], [0, 0, 1], [0, 0, 0]], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]], float)
    ties = np.array([[[0, 0, 1], [0, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 1], [1, 1, 0]]], float)
    # A over B over C with C and A tied; A over B with both tied to C.
    assert has_finite_davidson(wins, ties).tolist() == [True, False]


@pytest.mark.parametrize("votes", [(1, 0, 3), (20, 0, 0), (20, 0, 20), (0, 0, 9), (1, 0, 1000)])
def test_what_has_no_finite_strengths_still_ends(votes: tuple[int, int, int]) -> None:
    (strengths,), (weight,) = davidson(*of_two(*votes), all_compared(2))
    # By pencil, with a hundredth of a win added either way: odds and v of two options.
    wins, losses, ties = votes[0] + 0.01, votes[1] + 0.01, votes[2]
    assert strengths[0] == pytest.approx(wins / (wins + losses), rel=1e-6)
    assert weight == pytest.approx(ties / np.sqrt(wins * losses), rel=1e-6)
