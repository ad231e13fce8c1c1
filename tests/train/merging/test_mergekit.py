"""Where our merges and mergekit's are the same, and where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from train.merging.methods import elected, linear, slerp, task_arithmetic, trimmed

pytest.importorskip(
    "mergekit", reason="needs the optional extra: pip install 'nextchapter[mergekit]'"
)


@pytest.fixture
def tensors() -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(40, 30, generator=draw) for _ in range(3)]


def theirs(tensors: list[Tensor], method: str, base: int | None = None, **parameters) -> Tensor:
    from mergekit.merge_methods.api import merge_tensors  # pyright: ignore[reportMissingImports]

    return merge_tensors(tensors, method, base_index=base, parameters=parameters)


def same(ours: Tensor, other: Tensor) -> bool:
    return torch.allclose(ours.float(), other, rtol=0, atol=2e-6)


def test_linear_is_the_same(tensors: list[Tensor]) -> None:
    assert same(linear(tensors, [0.5, 0.3, 0.4]), theirs(tensors, "linear", weight=[0.5, 0.3, 0.4]))


def test_slerp_is_the_same_where_models_are_far_apart(tensors: list[Tensor]) -> None:
    assert same(slerp(*tensors[:2], 0.3), theirs(tensors[:2], "slerp", 0, t=0.3))


def test_slerp_differs_where_models_are_close_since_theirs_is_then_a_straight_line() -> None:
    first = torch.tensor([1.0, 0.0])
    second = torch.tensor([1.0, 0.03])
    half = slerp(first, second, 0.5)
    their_half = theirs([first, second], "slerp", 0, t=0.5)
    assert torch.allclose(their_half, torch.tensor([1.0, 0.015]))
    # The arc is longer than its chord by 1 in 8 of the angle's square.
    assert float(half[0] - their_half[0]) == pytest.approx(0.03**2 / 8, rel=0.01)


def test_task_arithmetic_is_the_same(tensors: list[Tensor]) -> None:
    base, *members = tensors
    other = theirs(tensors, "task_arithmetic", 0, weight=[0.6, -0.2])
    assert same(task_arithmetic(base, members, [0.6, -0.2]), other)


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.7, 0.3]])
def test_ties_is_the_same_at_weights_that_add_up_to_one(
    tensors: list[Tensor], weights: list[float]
) -> None:
    base, *members = tensors
    kept = [trimmed(base, member, 0.2) for member in members]
    other = theirs(tensors, "ties", 0, weight=weights, density=0.2)
    assert same(elected(base, kept, weights), other)


def test_the_sum_of_ties_weights_is_what_they_call_lambda(tensors: list[Tensor]) -> None:
    base, *members = tensors
    other = theirs(tensors, "ties", 0, weight=[1.0, 1.0], density=1.0, **{"lambda": 2.0})
    assert same(elected(base, members, [1.0, 1.0]), other)
