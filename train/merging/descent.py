"""Learning coefficients by gradient, a step at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from train.merging.search import Bounds, Point

Item = TypeVar("Item")

# G groups of tensors, N writers.


def descent(
    loss: Callable[[Tensor], Tensor], start_GN: Tensor, bounds: Bounds, learning_rate: float
) -> Iterator[Point]:
    """The coefficients after each step of Adam, without end; within the bounds, row by row."""
    values_GN = start_GN.clone().requires_grad_()
    optimizer = torch.optim.Adam([values_GN], lr=learning_rate)
    while True:
        optimizer.zero_grad()
        loss(values_GN).backward()
        optimizer.step()
        with torch.no_grad():
            values_GN.clamp_(*bounds)
        yield tuple(values_GN.detach().flatten().tolist())


def batches(items: Sequence[Item], size: int, seed: int) -> Iterator[list[Item]]:
    """Batches of different items, in an order that `seed` decides; without end, pass after pass."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(items, len(items))
        # A rest that fills no batch waits for another pass, unless it is all there is.
        for first in range(0, max(1, len(items) - size + 1), size):
            yield order[first : first + size]
