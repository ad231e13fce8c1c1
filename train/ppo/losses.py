"""The losses of PPO per token: clipped policy loss, clipped value loss, KL estimates.

Pure functions of tensors; how tokens are averaged is the trainer's business.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from train.ppo.settings import KlEstimator

# N answers, A answer tokens, V vocabulary.


def kl_estimate(logp: Tensor, reference_logp: Tensor, estimator: KlEstimator) -> Tensor:
    """KL(policy || reference) of each token, estimated from the token that the policy drew.

    `k1` is the log-ratio, unbiased and of either sign. `k3` is `exp(-k1) - 1 + k1`, also unbiased,
    never negative, of lower variance. Source: Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = logp - reference_logp
    if estimator == "k1":
        return log_ratio
    return torch.expm1(-log_ratio) + log_ratio


def policy_loss(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, epsilon: float, epsilon_high: float
) -> tuple[Tensor, Tensor]:
    """The clipped surrogate of each token, as a loss, and where clipping stopped the gradient.

    `-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)` with `r` the ratio of probabilities.
    Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7; the wider upper bound is of Yu et al.
    2025, arXiv 2503.14476.
    """
    ratio = torch.exp(logp - old_logp)
    free = -ratio * advantage
    bound = -ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantage
    return torch.maximum(free, bound), bound > free


def value_loss(
    value: Tensor, old_value: Tensor, returns: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Half the squared error of each value, and where clipping stopped the gradient.

    A value that moved by more than `epsilon` since the rollout earns nothing for going on: the
    larger of the errors of the value and of the value held within `epsilon` counts.
    Source: Engstrom et al. 2020, arXiv 2005.12729, section 3.
    """
    near = old_value + (value - old_value).clamp(-epsilon, epsilon)
    free, bound = (value - returns) ** 2, (near - returns) ** 2
    return 0.5 * torch.maximum(free, bound), bound > free


def token_logprobs(logits_NAV: Tensor, ids_NA: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each token under the logits at `temperature`, and their entropy, in nats.

    In fp32, one answer at a time and again in the backward pass, so that no fp32 copy of all logits
    is ever held.
    """
    rows = [
        checkpoint(_row_logprobs, logits_AV, ids_A, temperature, use_reentrant=False)
        for logits_AV, ids_A in zip(logits_NAV, ids_NA, strict=True)
    ]
    return torch.stack([logp for logp, _ in rows]), torch.stack([entropy for _, entropy in rows])


def _row_logprobs(logits_AV: Tensor, ids_A: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logp_AV = (logits_AV.float() / temperature).log_softmax(-1)
    entropy_A = -(logp_AV.detach().exp() * logp_AV.detach()).sum(-1)
    return logp_AV.gather(-1, ids_A[:, None])[:, 0], entropy_A
