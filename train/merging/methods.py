"""Ways of making one tensor of several models' tensors: pure functions, computed in float64.

Each is written as a sum of whole weights and not of differences, and leaves out terms of weight
zero. So a one-hot weight gives back that model bit for bit, and equal models merge to themselves.
Weights may be tensors that a gradient flows to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Coefficient = float | Tensor

# Below this angle the circle between two tensors is a straight line to float64's precision.
_SMALL_ANGLE = 1e-6


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[Coefficient]) -> Tensor:
    """Σ wᵢ θᵢ. A term whose weight is the number 0 is left out, whatever it holds."""
    terms = [
        weight * tensor.double()
        for tensor, weight in zip(tensors, weights, strict=True)
        if isinstance(weight, Tensor) or weight != 0
    ]
    if not terms:
        return torch.zeros_like(tensors[0], dtype=torch.float64)
    total = terms[0]
    # Not from zero on: that would turn a negative zero into a positive one.
    for term in terms[1:]:
        total = total + term
    return total


def shares(weights: Sequence[Coefficient]) -> list[Coefficient]:
    """The weights divided by their sum; equal shares where all of them are 0."""
    total = sum(weights)
    if _number(total) == 0:
        return [1 / len(weights)] * len(weights)
    return [weight / total for weight in weights]


def linear(members: Sequence[Tensor], weights: Sequence[Coefficient]) -> Tensor:
    """The weighted mean, as in model soups (Wortsman et al. 2022)."""
    return weighted_sum(members, shares(weights))


def slerp(first: Tensor, second: Tensor, t: Coefficient) -> Tensor:
    """The point at share `t` of the arc from one tensor to the other, both taken as one vector.

    Lengths are interpolated with the arc's own factors. Tensors in one line, or of length 0, have
    no arc: between them it is the straight line.
    """
    one, other = first.double().flatten(), second.double().flatten()
    lengths = one.norm() * other.norm()
    cosine = float(one @ other / lengths) if lengths > 0 else 1.0
    angle = torch.tensor(min(1.0, max(-1.0, cosine)), dtype=torch.float64).arccos()
    if min(angle, torch.pi - angle) < _SMALL_ANGLE:
        return weighted_sum([first, second], [1 - t, t])
    factors = [((1 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
    if isinstance(t, Tensor):
        return weighted_sum([first, second], factors)
    # Numbers again, so that the ends of the arc are the tensors themselves.
    return weighted_sum([first, second], [float(factor) for factor in factors])


def task_arithmetic(
    base: Tensor, members: Sequence[Tensor], scales: Sequence[Coefficient]
) -> Tensor:
    """θ₀ + Σ λᵢ (θᵢ − θ₀) (Ilharco et al. 2023)."""
    return weighted_sum([base, *members], [1 - sum(scales), *scales])


def trimmed(base: Tensor, member: Tensor, density: float) -> Tensor:
    """The member with all but the largest `density` of its changes taken back (TIES, step 1).

    At least one change is kept.
    """
    if density >= 1:
        return member
    change = (member.double() - base.double()).abs().flatten()
    largest = change.topk(max(1, int(density * change.numel()))).indices
    is_kept = torch.zeros_like(change, dtype=torch.bool)
    is_kept[largest] = True
    return torch.where(is_kept.view_as(member), member, base)


def elected(base: Tensor, members: Sequence[Tensor], weights: Sequence[Coefficient]) -> Tensor:
    """Per element, the mean of the changes with the elected sign (TIES, steps 2 and 3).

    The sign is that of Σ wᵢ τᵢ; the mean is weighted by wᵢ ≥ 0 over those who changed the element
    that way; it is scaled by Σ wᵢ. An element on which the vote is even stays the base's.
    """
    voters = [
        (member, weight)
        for member, weight in zip(members, weights, strict=True)
        if isinstance(weight, Tensor) or weight != 0
    ]
    if not voters:
        return base.double()
    changes = [member.double() - base.double() for member, _ in voters]
    vote = weighted_sum(changes, [_number(weight) for _, weight in voters])
    says = [
        weight * (change.sign() * vote.sign() > 0).double()
        for (_, weight), change in zip(voters, changes, strict=True)
    ]
    total = torch.stack(says).sum(0)
    has_won = total > 0
    whole = torch.where(has_won, total, 1.0)
    mean = weighted_sum([member for member, _ in voters], [say / whole for say in says])
    scale = sum(weight for _, weight in voters)
    scaled = weighted_sum([base, mean], [1 - scale, scale])
    return torch.where(has_won, scaled, base.double())


def dropped(base: Tensor, member: Tensor, drop_rate: float, draw: torch.Generator) -> Tensor:
    """The member with a random `drop_rate` of its changes taken back, the others made larger.

    They are divided by 1 − `drop_rate`, so that its expectation is the member (DARE, Yu et al.
    2024).
    """
    if drop_rate == 0:
        return member
    # Drawn on the CPU, so that the same seed drops the same changes on every device.
    is_kept = torch.rand(member.shape, generator=draw, dtype=torch.float64) >= drop_rate
    factor = (is_kept / (1 - drop_rate)).to(member.device)
    return base.double() + factor * (member.double() - base.double())


def draw_for(*names: object) -> torch.Generator:
    """A source of random numbers that depends on the names alone, not on what was drawn before."""
    told = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(told[:8]) >> 1)


def _number(coefficient: Coefficient) -> float:
    return float(coefficient.detach() if isinstance(coefficient, Tensor) else coefficient)
