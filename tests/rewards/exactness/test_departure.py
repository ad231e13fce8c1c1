"""How far a lossy form of a generator is off, from a pencil."""

from __future__ import annotations

import math

import pytest

from rewards.exactness.departure import Departure
from rewards.types import Likelihood, ScoreRequest


def likelihood(*token_nll: float) -> Likelihood:
    return Likelihood(sum(token_nll), token_nll)


def test_tokens_are_compared_in_nats_and_improvements_each_with_its_own_baseline() -> None:
    requests = [ScoreRequest("b/1", (1,), plan, (2, 3)) for plan in ((), (4,))]
    # The plan takes log 2 nats off each token, and so halves perplexity: I = 50. In the lossy form
    # every token costs 0.1 more, and the plan takes log 4 off: I = 75.
    exact = [likelihood(2.0, 2.0), likelihood(*(2 - math.log(2),) * 2)]
    lossy = [likelihood(2.1, 2.1), likelihood(*(2.1 - math.log(4),) * 2)]
    found = Departure.between(exact, lossy, requests)
    assert found.largest_points == found.mean_points == pytest.approx(75 - 50)
    assert found.largest_nats == pytest.approx(math.log(2) - 0.1)
    assert found.mean_nats == pytest.approx((0.1 + math.log(2) - 0.1) / 2)


def test_a_form_that_is_not_lossy_does_not_depart() -> None:
    requests = [ScoreRequest("b/1", (1,), plan, (2, 3)) for plan in ((), (4,), (5,))]
    same = [likelihood(2.0, 1.0), likelihood(1.0, 1.0), likelihood(3.0, 1.0)]
    assert Departure.between(same, same, requests) == Departure(0.0, 0.0, 0.0, 0.0)
