"""From rewards and values to advantages: generalised advantage estimation and its statistics.

Pure functions of tensors. Answers stand at the left of their rows; padding follows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# E episodes, G attempts at each, N = E x G answers, A answer tokens.

# Keeps a division by the deviation of equal numbers finite.
SMALL = 1e-8


def centred(score_N: Tensor, group_size: int) -> Tensor:
    """Scores less the mean of their group; the attempts of a group stand together.

    A group of one keeps its score. NaN is no score, and stays what it is. Source: Hu et al. 2025,
    arXiv 2501.03262 ("baseline").
    """
    if group_size == 1:
        return score_N
    score_EG = score_N.reshape(-1, group_size)
    return (score_EG - score_EG.nanmean(1, keepdim=True)).flatten()


def token_rewards(score_N: Tensor, penalty_NA: Tensor, mask_NA: Tensor) -> Tensor:
    """Reward of each answer token: minus its penalty, and the score at the answer's last token.

    An answer whose every token is masked out has none.
    """
    reward_NA = -penalty_NA * mask_NA
    num_tokens_N1 = mask_NA.sum(1, keepdim=True).long()
    paid_N1 = score_N[:, None].to(reward_NA.dtype).where(num_tokens_N1 > 0, 0.0)
    return reward_NA.scatter_add(1, (num_tokens_N1 - 1).clamp(min=0), paid_N1)


def advantages(
    reward_NA: Tensor, value_NA: Tensor, mask_NA: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of each token, 0 in the padding.

    `delta_t = r_t + gamma V_{t+1} - V_t`, `A_t = delta_t + gamma lam A_{t+1}`,
    `return_t = A_t + V_t`; nothing comes after the last token of an answer, cut or not.
    Source: Schulman et al. 2016, arXiv 1506.02438, eq. 16.
    """
    advantage_NA = torch.zeros_like(reward_NA)
    next_advantage_N = torch.zeros_like(reward_NA[:, 0])
    next_value_N = torch.zeros_like(next_advantage_N)
    for t in reversed(range(reward_NA.shape[1])):
        delta_N = reward_NA[:, t] + gamma * next_value_N - value_NA[:, t]
        next_advantage_N = (delta_N + gamma * lam * next_advantage_N) * mask_NA[:, t]
        next_value_N = value_NA[:, t] * mask_NA[:, t]
        advantage_NA[:, t] = next_advantage_N
    return advantage_NA, (advantage_NA + value_NA) * mask_NA


def moments(x: Tensor, mask: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the numbers that are not masked out; zeros where all are."""
    chosen = x[mask.bool()].double()
    if not len(chosen):
        return 0.0, 0.0
    return float(chosen.mean()), float(chosen.std(correction=0))


def whitened(x: Tensor, mask: Tensor, mean: float, deviation: float) -> Tensor:
    """Centred and scaled; 0 where masked out."""
    return (x - mean) / (deviation + SMALL) * mask


def explained_variance(value: Tensor, returns: Tensor, mask: Tensor) -> float:
    """`1 - Var(return - value) / Var(return)`: 1 for a perfect critic, 0 for one that knows only
    the mean, negative for a worse one; NaN where all returns are equal."""
    _, deviation = moments(returns, mask)
    _, error = moments(returns - value, mask)
    return 1 - (error / deviation) ** 2 if deviation else math.nan
