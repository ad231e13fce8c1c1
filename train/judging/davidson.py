"""Strengths from pairwise preferences, ties counted: Davidson's model.

The chances that i wins, that j wins and that they tie are as s_i : s_j : v·sqrt(s_i·s_j), so that
of two equals a share of v / (2 + v) of votes are ties. Strengths sum to 1. Source: Davidson 1970.
"""

from __future__ import annotations

import numpy as np

from train.judging.bradley_terry import TOLERANCE, Array, Flags, with_pseudo_wins

# S tables, O options, P parameters: the log strengths, then the log of v. ties_SOO is symmetric.
MAX_STEPS = 1_000
MAX_CHANGE = 1.0
"""The most that a step changes a parameter: a full step of Newton's may leave what is known."""


def davidson(wins_SOO: Array, ties_SOO: Array, compared_OO: Flags) -> tuple[Array, Array]:
    """Maximum-likelihood strengths [S, O] and tie weights v [S], by Newton's method.

    The log-likelihood is concave in the logarithms of both. Without a tie, v is 0.
    """
    is_finite_S = has_finite_davidson(wins_SOO, ties_SOO)
    wins_SOO = with_pseudo_wins(wins_SOO, is_finite_S, compared_OO)
    num_tables, num_options = wins_SOO.shape[:2]
    log_SP = np.zeros((num_tables, num_options + 1))
    has_ties_S = ties_SOO.any((1, 2))
    log_SP[~has_ties_S, -1] = -np.inf
    moving = np.arange(num_tables)
    for _ in range(MAX_STEPS):
        step_SP = _newton_step(log_SP[moving], wins_SOO[moving], ties_SOO[moving])
        largest_S = np.abs(step_SP).max(1)
        log_SP[moving] += step_SP / np.maximum(1, largest_S / MAX_CHANGE)[:, None]
        moving = moving[largest_S >= TOLERANCE]
        if not len(moving):
            strengths_SO = np.exp(log_SP[:, :-1])
            return strengths_SO / strengths_SO.sum(1, keepdims=True), np.exp(log_SP[:, -1])
    raise AssertionError("Davidson's model did not converge")


def has_finite_davidson(wins_SOO: Array, ties_SOO: Array) -> Flags:
    """Whether the likelihood has its maximum at finite strengths and a finite v, for each table.

    It has not where log strengths and log v can go on and on in the directions d and e and make no
    vote less likely. For e = 0 that asks for d_i >= d_j where i won and d_i = d_j where they tied:
    impossible where chains of wins and ties lead everywhere. For e = 1/2 it asks for d_i - d_j >= 1
    where i won and |d_i - d_j| <= 1 where they tied: impossible where some circle has more wins
    than ties.
    """
    num_options = wins_SOO.shape[1]
    # In row i and column j the most that d_j may exceed d_i, first by votes on these two alone and
    # then along every chain (Floyd & Warshall); below 0 in a circle, that is impossible.
    most_SOO = np.where(wins_SOO > 0, -1.0, np.where(ties_SOO > 0, 1.0, np.inf))
    for middle in range(num_options):
        by_way_SOO = most_SOO[:, :, middle, None] + most_SOO[:, None, middle, :]
        most_SOO = np.minimum(most_SOO, by_way_SOO)
    has_circle_S = (np.diagonal(most_SOO, axis1=1, axis2=2) < 0).any(1)
    return np.asarray(has_circle_S & np.isfinite(most_SOO).all((1, 2)))


def _newton_step(log_SP: Array, wins_SOO: Array, ties_SOO: Array) -> Array:
    """Where the next step leads; the last option's strength stays, as only ratios matter."""
    num_options = wins_SOO.shape[1]
    win_SOO, tie_SOO = _chances(log_SP)
    votes_SOO = wins_SOO + wins_SOO.swapaxes(1, 2) + ties_SOO
    # A vote gives an option a point, half a point or none, and may or may not be a tie.
    mean_SOO = win_SOO + tie_SOO / 2
    spread_SOO = votes_SOO * (win_SOO + tie_SOO / 4 - mean_SOO**2)
    with_tie_SOO = votes_SOO * tie_SOO * (0.5 - mean_SOO)
    ties_S = ties_SOO.sum((1, 2)) / 2

    slope_SP = np.zeros_like(log_SP)
    slope_SP[:, :-1] = (wins_SOO + ties_SOO / 2 - votes_SOO * mean_SOO).sum(2)
    slope_SP[:, -1] = ties_S - (votes_SOO * tie_SOO).sum((1, 2)) / 2
    curvature_SPP = np.zeros((*log_SP.shape, log_SP.shape[1]))
    options = np.arange(num_options)
    curvature_SPP[:, :-1, :-1] = -spread_SOO
    curvature_SPP[:, options, options] = spread_SOO.sum(2)
    curvature_SPP[:, :-1, -1] = curvature_SPP[:, -1, :-1] = with_tie_SOO.sum(2)
    curvature_SPP[:, -1, -1] = (votes_SOO * tie_SOO * (1 - tie_SOO)).sum((1, 2)) / 2
    # Without ties log v is minus infinity and stays there.
    curvature_SPP[ties_S == 0, -1, -1] = 1
    free = [*range(num_options - 1), num_options]
    step_SP = np.zeros_like(log_SP)
    step_SP[:, free] = np.linalg.solve(curvature_SPP[:, free][:, :, free], slope_SP[:, free, None])[
        :, :, 0
    ]
    return step_SP


def _chances(log_SP: Array) -> tuple[Array, Array]:
    """Of i winning against j, and of a tie, both [S, O, O]."""
    half_SOO = (log_SP[:, :-1, None] - log_SP[:, None, :-1]) / 2
    v_S11 = np.exp(log_SP[:, -1, None, None])
    all_SOO = np.exp(half_SOO) + np.exp(-half_SOO) + v_S11
    return np.exp(half_SOO) / all_SOO, v_S11 / all_SOO
