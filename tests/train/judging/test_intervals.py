"""Intervals against closed forms and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from train.judging.intervals import Estimate, estimate, resample_weights, wilson


def test_a_resample_draws_as_many_clusters_as_there_are() -> None:
    weights = resample_weights(20, 1000, seed=0)
    assert weights.shape == (1000, 20)
    assert (weights.sum(1) == 20).all()
    # Binomial(20, 1/20): mean 1, variance 19/20.
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(19 / 20, abs=0.03)


def test_resamples_follow_from_the_seed() -> None:
    first, again, other = (resample_weights(5, 100, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_the_interval_is_the_middle_95_percent_of_the_resamples() -> None:
    assert estimate(50.0, np.arange(101.0), 2) == Estimate(50.0, (2.5, 97.5))


def test_resamples_that_say_nothing_are_left_out_while_they_are_few() -> None:
    few = np.array([*range(101), math.nan], float)
    assert estimate(50.0, few, 2).ci95 == (2.5, 97.5)
    many = np.array([*range(101), *[math.nan] * 10], float)
    assert estimate(50.0, many, 2) == Estimate(50.0, None)


def test_one_cluster_has_no_interval_and_no_votes_no_value() -> None:
    assert estimate(0.5, np.full(100, 0.5), 1) == Estimate(0.5, None)
    assert estimate(math.nan, np.full(100, math.nan), 5) == Estimate(None, None)


def test_wilson_by_pencil() -> None:
    # With no success of n the upper limit is z² / (n + z²).
    z2 = 1.959964**2
    assert wilson(0, 20) == pytest.approx((0, z2 / (20 + z2)))
    assert wilson(20, 20) == pytest.approx((20 / (20 + z2), 1))
    low, high = wilson(10, 20) or (math.nan, math.nan)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert wilson(0, 0) is None
