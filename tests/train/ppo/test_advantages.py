"""Advantages against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from train.ppo.advantages import (
    advantages,
    centred,
    explained_variance,
    moments,
    token_rewards,
    whitened,
)

# Answers of three tokens and of two; what stands in the padding must not count.
MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
REWARD = torch.tensor([[0.0, 0.0, 4.0], [1.0, 2.0, 99.0]])
VALUE = torch.tensor([[1.0, 2.0, 3.0], [0.5, 1.0, 77.0]])


def rows(x: Tensor) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in x.tolist()]


def test_scores_lose_the_mean_of_their_group_and_single_ones_nothing() -> None:
    scores = torch.tensor([1.0, 3.0, -10.0, -20.0])
    assert centred(scores, 2).tolist() == [-1.0, 1.0, 5.0, -5.0]
    assert centred(scores, 1).tolist() == scores.tolist()
    # What has no score is compared with nothing; one alone in its group has nothing to gain.
    with_gaps = torch.tensor([1.0, math.nan, 4.0, 7.0, math.nan, math.nan])
    assert centred(with_gaps, 3).nan_to_num(9.0).tolist() == [-1.5, 9.0, 1.5, 0.0, 9.0, 9.0]


def test_the_score_is_paid_at_the_last_token_and_the_penalty_at_each() -> None:
    penalty = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    paid = token_rewards(torch.tensor([3.0, -1.0]), penalty, MASK)
    assert rows(paid) == [[-0.1, -0.2, 2.7], [-0.4, -1.5, 0.0]]


def test_an_answer_that_is_masked_out_is_paid_nothing_and_has_no_advantage() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    paid = token_rewards(torch.tensor([3.0, math.nan]), torch.full((2, 3), 0.5), mask)
    assert rows(paid) == [[-0.5, 2.5, 0.0], [0.0, 0.0, 0.0]]
    found, returns = advantages(paid, VALUE, mask, gamma=1.0, lam=1.0)
    assert rows(found)[1] == rows(returns)[1] == [0.0, 0.0, 0.0]
    assert moments(found, torch.zeros_like(mask)) == (0.0, 0.0)


def test_advantages_discount_the_errors_of_the_critic() -> None:
    # Every delta of the first answer is 1, so A is 1, 1 + 1/2, 1 + 3/4 from its end.
    # Of the second: delta_1 = 2 - 1 = 1, delta_0 = 1 + 1 - 0.5 = 1.5, A_0 = 1.5 + 1/2.
    found, returns = advantages(REWARD, VALUE, MASK, gamma=1.0, lam=0.5)
    assert rows(found) == [[1.75, 1.5, 1.0], [2.0, 1.0, 0.0]]
    assert rows(returns) == [[2.75, 3.5, 4.0], [2.5, 2.0, 0.0]]


def test_with_lambda_one_returns_are_discounted_rewards_whatever_the_critic_says() -> None:
    _, returns = advantages(REWARD, VALUE, MASK, gamma=0.5, lam=1.0)
    assert rows(returns) == [[1.0, 2.0, 4.0], [2.0, 2.0, 0.0]]


def test_with_lambda_zero_an_advantage_is_the_error_of_one_step() -> None:
    found, _ = advantages(REWARD, VALUE, MASK, gamma=1.0, lam=0.0)
    assert rows(found) == [[1.0, 1.0, 1.0], [1.5, 1.0, 0.0]]


def test_whitening_leaves_mean_0_and_deviation_1_and_the_padding_alone() -> None:
    x = torch.tensor([[1.0, 3.0, 50.0], [5.0, 7.0, 50.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    # Mean 4, deviation sqrt((9 + 1 + 1 + 9) / 4) = sqrt 5.
    assert moments(x, mask) == (4.0, pytest.approx(math.sqrt(5)))
    white = whitened(x, mask, *moments(x, mask))
    expected = [
        [-3 / math.sqrt(5), -1 / math.sqrt(5), 0.0],
        [1 / math.sqrt(5), 3 / math.sqrt(5), 0],
    ]
    assert white.tolist() == [pytest.approx(row) for row in expected]


def test_equal_numbers_are_whitened_to_zero() -> None:
    assert whitened(torch.tensor([2.0, 2.0]), torch.ones(2), 2.0, 0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "explained"),
    [
        ([1.0, 3.0, 9.0], 1.0),
        # Errors 0 and 1 have variance 1/4; the returns 1 and 3 have variance 1.
        ([1.0, 2.0, 9.0], 0.75),
        # A critic that knows only the mean.
        ([2.0, 2.0, 9.0], 0.0),
        # Errors -2 and 2.
        ([3.0, 1.0, 9.0], -3.0),
    ],
)
def test_explained_variance_is_the_share_that_the_critic_foresaw(
    value: list[float], explained: float
) -> None:
    returns, mask = torch.tensor([1.0, 3.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    assert explained_variance(torch.tensor(value), returns, mask) == pytest.approx(explained)


def test_nothing_is_explained_where_nothing_varies() -> None:
    same = torch.ones(2)
    assert math.isnan(explained_variance(torch.zeros(2), same, same))
