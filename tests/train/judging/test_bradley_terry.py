"""Strengths against closed forms, the likelihood equations, simulation and another library."""

from __future__ import annotations

import numpy as np
import pytest

from train.judging.bradley_terry import are_connected, bradley_terry, has_finite_strengths

# Overall preferences of the published 7B judgments: trained, untrained reasoning, no reasoning and
# SFT; in row i and column j how often i was preferred over j.
PUBLISHED_WINS = np.array([[0, 11, 13, 18], [6, 0, 12, 15], [4, 6, 0, 17], [2, 3, 3, 0]], float)


def all_compared(num_options: int) -> np.ndarray:
    return ~np.eye(num_options, dtype=bool)


@pytest.mark.parametrize(("wins", "losses"), [(13, 4), (11, 6), (18, 2), (1, 1), (1, 999)])
def test_two_options_win_as_often_as_they_won(wins: int, losses: int) -> None:
    table = np.array([[[0.0, wins], [losses, 0.0]]])
    strengths = bradley_terry(table, all_compared(2))[0]
    assert strengths[0] == pytest.approx(wins / (wins + losses), abs=1e-9)
    assert strengths.sum() == pytest.approx(1)


def test_a_chain_of_pairs_multiplies_odds() -> None:
    # A beats B 2 : 1 and B beats C 3 : 1; A and C never met, so A is to C as 6 : 1.
    table = np.array([[[0.0, 2, 0], [1, 0, 3], [0, 1, 0]]])
    strengths = bradley_terry(table, table[0] + table[0].T > 0)[0]
    assert strengths == pytest.approx([0.6, 0.3, 0.1])


def test_the_published_joint_strengths() -> None:
    strengths = bradley_terry(PUBLISHED_WINS[None], all_compared(4))[0]
    assert strengths.round(3).tolist() == [0.503, 0.284, 0.170, 0.043]
    # choix 0.4.1, ilsr_pairwise, on the same votes.
    assert strengths == pytest.approx([0.50322962, 0.28352876, 0.17011503, 0.04312659], abs=2e-8)


def test_every_option_wins_as_often_as_its_strength_foretells() -> None:
    # The likelihood equations, which the maximum alone fulfils (Ford 1957).
    wins = np.random.default_rng(0).integers(1, 30, size=(50, 6, 6)) * all_compared(6)
    strengths = bradley_terry(wins.astype(float), all_compared(6))
    chances = strengths[:, :, None] / (strengths[:, :, None] + strengths[:, None, :])
    foretold = ((wins + wins.swapaxes(1, 2)) * chances).sum(2)
    assert foretold == pytest.approx(wins.sum(2), abs=1e-5)


def test_simulated_strengths_are_recovered() -> None:
    true = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
    chances = true[:, None] / (true[:, None] + true)
    upper = np.triu(np.random.default_rng(0).binomial(100_000, chances), 1)
    wins = upper + np.tril(100_000 - upper.T, -1)
    # A share of 0.5 has a deviation of 0.0016 in 100,000 draws.
    found = bradley_terry(wins[None].astype(float), all_compared(5))
    assert found[0] == pytest.approx(true, abs=0.005)


def test_a_table_does_not_depend_on_its_batch() -> None:
    tables = np.random.default_rng(1).integers(1, 9, size=(20, 4, 4)) * all_compared(4)
    together = bradley_terry(tables.astype(float), all_compared(4))
    alone = [bradley_terry(t[None].astype(float), all_compared(4))[0] for t in tables]
    assert together == pytest.approx(np.array(alone), abs=1e-8)


def test_strengths_are_finite_where_chains_of_wins_lead_everywhere() -> None:
    circle = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    always_first = [[0, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert has_finite_strengths(np.array([circle, always_first], float)).tolist() == [True, False]


def test_who_lost_everything_is_last_and_has_almost_no_strength() -> None:
    table = np.array([[[0.0, 10, 10], [5, 0, 10], [0, 0, 0]]])
    strengths = bradley_terry(table, all_compared(3))[0]
    assert strengths[2] < 0.001
    assert strengths[0] / strengths[1] == pytest.approx(2, rel=0.01)


def test_groups_that_never_met_are_not_on_one_scale() -> None:
    apart = np.zeros((4, 4), bool)
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = True
    assert not are_connected(apart)
    apart[1, 2] = apart[2, 1] = True
    assert are_connected(apart)
