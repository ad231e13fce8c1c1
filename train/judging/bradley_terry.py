"""Strengths from pairwise preferences: Bradley-Terry without ties, Davidson with them.

The chance that option i is preferred over j is s_i / (s_i + s_j); strengths sum to 1. Everything
works on a batch of tables at once, because intervals want thousands of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# S tables (such as resamples), O options. wins_SOO[s, i, j] is how often i was preferred over j,
# ties_SOO is symmetric, and compared_OO says which options were ever compared.
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

PSEUDO_WINS = 0.01
"""Wins added both ways to every compared pair where preferences alone give no finite strengths."""
TOLERANCE = 1e-9
MAX_STEPS = 100_000


def bradley_terry(wins_SOO: Array, compared_OO: Flags) -> Array:
    """Maximum-likelihood strengths [S, O] by iterative Luce spectral ranking; ties do not count.

    Strengths are the stationary distribution of a Markov chain that moves from an option to those
    preferred over it, at rates that depend on the strengths; at the fixed point the likelihood is
    largest. Source: Maystre & Grossglauser 2015, section 3.
    """
    wins_SOO = made_finite(wins_SOO, np.zeros_like(wins_SOO), compared_OO)
    strengths_SO = np.full(wins_SOO.shape[:2], 1 / wins_SOO.shape[1])
    for _ in range(MAX_STEPS):
        rates_SOO = wins_SOO.swapaxes(1, 2) / _sums(strengths_SO)
        before_SO, strengths_SO = strengths_SO, _stationary(rates_SOO)
        if np.abs(strengths_SO - before_SO).max() < TOLERANCE:
            return strengths_SO
    raise AssertionError("spectral ranking did not converge")


def davidson(wins_SOO: Array, ties_SOO: Array, compared_OO: Flags) -> tuple[Array, Array]:
    """Maximum-likelihood strengths [S, O] and tie weights v [S], ties counted.

    The chances of i, j and a tie are as s_i : s_j : v·sqrt(s_i·s_j). Found by
    minorization-maximization, first in the strengths and then in v: no step lowers the likelihood.
    Sources: Davidson 1970 (the model); Hunter 2004 (the algorithm).
    """
    wins_SOO = made_finite(wins_SOO, ties_SOO, compared_OO)
    votes_SOO = wins_SOO + wins_SOO.swapaxes(1, 2) + ties_SOO
    points_SO = (wins_SOO + ties_SOO / 2).sum(2)
    num_ties_S = ties_SOO.sum((1, 2)) / 2
    strengths_SO = np.full(points_SO.shape, 1 / points_SO.shape[1])
    weight_S = np.ones(len(points_SO))
    moving = np.arange(len(points_SO))
    for _ in range(MAX_STEPS):
        before_SO, before_S = strengths_SO[moving], weight_S[moving]
        after_SO = _next_strengths(before_SO, before_S, votes_SOO[moving], points_SO[moving])
        after_S = _next_weight(after_SO, before_S, votes_SOO[moving], num_ties_S[moving])
        strengths_SO[moving], weight_S[moving] = after_SO, after_S
        # Chances are what matters, and v / (2 + v) is that of a tie between equals.
        tie_change_S = np.abs(after_S / (2 + after_S) - before_S / (2 + before_S))
        change_S = np.maximum(np.abs(after_SO - before_SO).max(1), tie_change_S)
        moving = moving[change_S >= TOLERANCE]
        if not len(moving):
            return strengths_SO, weight_S
    raise AssertionError("Davidson's model did not converge")


def has_finite_strengths(wins_SOO: Array, ties_SOO: Array) -> Flags:
    """Whether the likelihood has its maximum at finite strengths, for each table.

    So it is where from every option a chain of wins, or ties, leads to every other (Ford 1957),
    and where not every vote is a tie.
    """
    num_options = wins_SOO.shape[1]
    reach_SOO = (wins_SOO + ties_SOO > 0) | np.eye(num_options, dtype=bool)
    for _ in range(num_options.bit_length()):
        reach_SOO = reach_SOO @ reach_SOO
    return reach_SOO.all((1, 2)) & (wins_SOO > 0).any((1, 2))


def are_connected(compared_OO: Flags) -> bool:
    """Whether all options can be put on one scale: compared directly or by way of others."""
    as_wins_SOO = compared_OO[None].astype(np.float64)
    return bool(has_finite_strengths(as_wins_SOO, np.zeros_like(as_wins_SOO))[0])


def made_finite(wins_SOO: Array, ties_SOO: Array, compared_OO: Flags) -> Array:
    """The wins, with `PSEUDO_WINS` added in the tables that have no finite strengths."""
    assert are_connected(compared_OO), "strengths of groups that were never compared"
    needs_S11 = ~has_finite_strengths(wins_SOO, ties_SOO)[:, None, None]
    return wins_SOO + PSEUDO_WINS * (needs_S11 & compared_OO)


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
    return np.linalg.solve(flow_SOO, right_SO1)[:, :, 0]


def _next_strengths(
    strengths_SO: Array, weight_S: Array, votes_SOO: Array, points_SO: Array
) -> Array:
    v_S11 = weight_S[:, None, None]
    roots_SO = np.sqrt(strengths_SO)
    pull_SOO = 1 + v_S11 / 2 * (roots_SO[:, None, :] / roots_SO[:, :, None])
    after_SO = points_SO / (votes_SOO / _all_chances(strengths_SO, v_S11) * pull_SOO).sum(2)
    return after_SO / after_SO.sum(1, keepdims=True)


def _next_weight(strengths_SO: Array, weight_S: Array, votes_SOO: Array, ties_S: Array) -> Array:
    chances_SOO = _all_chances(strengths_SO, weight_S[:, None, None])
    return 2 * ties_S / (votes_SOO / chances_SOO * _geometric_means(strengths_SO)).sum((1, 2))


def _all_chances(strengths_SO: Array, v_S11: Array) -> Array:
    """What the chances of a win, a loss and a tie are divided by."""
    return _sums(strengths_SO) + v_S11 * _geometric_means(strengths_SO)


def _sums(strengths_SO: Array) -> Array:
    return strengths_SO[:, :, None] + strengths_SO[:, None, :]


def _geometric_means(strengths_SO: Array) -> Array:
    roots_SO = np.sqrt(strengths_SO)
    return roots_SO[:, :, None] * roots_SO[:, None, :]
