"""Strengths from pairwise preferences, ties dropped: the Bradley-Terry model.

The chance that option i is preferred over j is s_i / (s_i + s_j); strengths sum to 1. Everything
works on a batch of tables at once, because intervals want thousands of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# S tables (such as resamples), O options. wins_SOO[s, i, j] is how often i was preferred over j,
# and compared_OO says which options were ever compared.
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

PSEUDO_WINS = 0.01
"""Wins added both ways to every compared pair where preferences alone give no finite strengths."""
TOLERANCE = 1e-9
MAX_STEPS = 10_000


def bradley_terry(wins_SOO: Array, compared_OO: Flags) -> Array:
    """Maximum-likelihood strengths [S, O] by iterative Luce spectral ranking.

    Strengths are the stationary distribution of a Markov chain that moves from an option to those
    preferred over it, at rates that depend on the strengths; at the fixed point the likelihood is
    largest. Source: Maystre & Grossglauser 2015, section 3.
    """
    wins_SOO = with_pseudo_wins(wins_SOO, has_finite_strengths(wins_SOO), compared_OO)
    strengths_SO = np.full(wins_SOO.shape[:2], 1 / wins_SOO.shape[1])
    for _ in range(MAX_STEPS):
        rates_SOO = wins_SOO.swapaxes(1, 2) / _sums(strengths_SO)
        before_SO, strengths_SO = strengths_SO, _stationary(rates_SOO)
        if np.abs(strengths_SO - before_SO).max() < TOLERANCE:
            return strengths_SO
    raise AssertionError("spectral ranking did not converge")


def has_finite_strengths(wins_SOO: Array) -> Flags:
    """Whether the likelihood of each table has its maximum at finite strengths.

    So it is where a chain of wins leads from every option to every other (Ford 1957).
    """
    reach_SOO = (wins_SOO > 0) | np.eye(wins_SOO.shape[1], dtype=bool)
    for _ in range(wins_SOO.shape[1].bit_length()):
        reach_SOO = reach_SOO @ reach_SOO
    return np.asarray(reach_SOO.all((1, 2)))


def are_connected(compared_OO: Flags) -> bool:
    """Whether all options can be put on one scale: compared directly or by way of others."""
    return bool(has_finite_strengths(compared_OO[None].astype(np.float64))[0])


def with_pseudo_wins(wins_SOO: Array, is_finite_S: Flags, compared_OO: Flags) -> Array:
    """The wins, with `PSEUDO_WINS` added in the tables that have no finite strengths."""
    assert are_connected(compared_OO), "strengths of groups that were never compared"
    return wins_SOO + PSEUDO_WINS * (~is_finite_S[:, None, None] & compared_OO)


def _stationary(rates_SOO: Array) -> Array:
    """The distribution [S, O] that a chain with these rates of moving from i to j leaves alone."""
    flow_SOO = rates_SOO.swapaxes(1, 2).copy()
    diagonal = np.arange(rates_SOO.shape[1])
    flow_SOO[:, diagonal, diagonal] = -rates_SOO.sum(2)
    # Inflow equals outflow at every option; one of these equations follows from the others, and
    # gives its place to "the shares sum to 1".
    flow_SOO[:, -1, :] = 1
    right_SO1 = np.zeros((*rates_SOO.shape[:2], 1))
    right_SO1[:, -1] = 1
    return np.asarray(np.linalg.solve(flow_SOO, right_SO1)[:, :, 0], dtype=np.float64)


def _sums(strengths_SO: Array) -> Array:
    return strengths_SO[:, :, None] + strengths_SO[:, None, :]
