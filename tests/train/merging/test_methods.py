"""Merging methods on vectors small enough for a pencil, and what is true of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from envs.merging import FROM_BASE
from train.merging.merger import COMBINE
from train.merging.methods import (
    Coefficient,
    draw_for,
    dropped,
    elected,
    linear,
    slerp,
    task_arithmetic,
    trimmed,
)

Combine = Callable[[Tensor, Sequence[Tensor], Sequence[Coefficient]], Tensor]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def random_tensors(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    found = [torch.randn(5, 7, generator=draw).to(dtype) for _ in range(count)]
    for place, tensor in enumerate(found):
        # What a sum from zero on, or a difference from the base, would lose.
        tensor[0, place] = -0.0
        tensor[1, place] = 1e-30
        tensor[2, place] = 1e10
    return found


def is_same(merged: Tensor, expected: Tensor) -> bool:
    """Bit for bit in the precision of the model, the sign of zero included."""
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[expected.dtype]
    return torch.equal(merged.to(expected.dtype).view(bits), expected.view(bits))


@pytest.mark.parametrize("method", COMBINE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_with_weight_one_is_that_model_bit_for_bit(method: str, dtype: torch.dtype) -> None:
    base, first, second = random_tensors(3, dtype)
    assert is_same(COMBINE[method](base, [first, second], [1.0, 0.0]), first)
    assert is_same(COMBINE[method](base, [first, second], [0.0, 1.0]), second)


@pytest.mark.parametrize("method", FROM_BASE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coefficients_of_zero_give_the_base_bit_for_bit(method: str, dtype: torch.dtype) -> None:
    base, first, second = random_tensors(3, dtype)
    assert is_same(COMBINE[method](base, [first, second], [0.0, 0.0]), base)


@pytest.mark.parametrize("method", COMBINE)
def test_equal_models_merge_to_themselves(method: str) -> None:
    (model,) = random_tensors(1)
    for weights in ([0.5, 0.5], [0.3, 0.6], [1.0, 0.0], [1.2, 0.9]):
        # Equal as numbers: a zero may have lost its sign.
        assert torch.equal(COMBINE[method](model, [model, model.clone()], weights).float(), model)


def test_weight_one_ignores_what_is_not_finite_in_a_model_of_weight_zero() -> None:
    model, broken = vector(1, 2), vector(math.inf, math.nan)
    assert torch.equal(linear([model, broken], [1.0, 0.0]).float(), model)


def test_linear_is_the_weighted_mean() -> None:
    merged = linear([vector(1, 2), vector(5, -2)], [3.0, 1.0])
    assert merged.tolist() == [2.0, 1.0]


def test_task_arithmetic_adds_scaled_changes_to_the_base() -> None:
    merged = task_arithmetic(vector(1, 1), [vector(2, 1), vector(1, 3)], [0.5, 2.0])
    assert merged.tolist() == [1.5, 5.0]


def test_slerp_ends_at_its_ends_and_halves_a_right_angle() -> None:
    first, second = vector(1, 0), vector(0, 1)
    assert is_same(slerp(first, second, 0.0), first)
    assert is_same(slerp(first, second, 1.0), second)
    half = slerp(first, second, 0.5)
    assert half.tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.5)], abs=1e-15)
    third = slerp(first, second, 1 / 3)
    assert third.tolist() == pytest.approx([math.cos(math.pi / 6), 0.5], abs=1e-15)


@pytest.mark.parametrize("second", [vector(2, 2), vector(0, 0), vector(-1, -1)])
def test_slerp_between_vectors_in_one_line_is_the_straight_line(second: Tensor) -> None:
    first = vector(1, 1)
    expected = 0.75 * first.double() + 0.25 * second.double()
    assert torch.allclose(slerp(first, second, 0.25), expected, rtol=0, atol=1e-15)


def test_trimming_keeps_the_largest_changes() -> None:
    base, member = vector(1, 1, 1, 1, 1), vector(1.5, -2, 1, 2, 0.9)
    # Changes: 0.5, -3, 0, 1, -0.1; two fifths of them are -3 and 1.
    assert trimmed(base, member, 0.4).tolist() == [1, -2, 1, 2, 1]
    assert trimmed(base, member, 0.01).tolist() == [1, -2, 1, 1, 1]
    assert trimmed(base, member, 1.0) is member


def test_ties_elects_a_sign_and_averages_those_who_agree() -> None:
    base = vector(1, 1, 1, 1)
    first, second, third = vector(3, 0, 1, 2), vector(2, 3, 1, 0), vector(-3, 4, 1, 1)
    # Changes:  2 -1 0 1;   1 2 0 -1;   -4 3 0 0. Sums at equal weights: -1, 4, 0, 0.
    merged = elected(base, [first, second, third], [1 / 3, 1 / 3, 1 / 3])
    assert merged.tolist() == pytest.approx([1 - 4, 1 + 2.5, 1, 1])
    # Twice the weight for the first turns the first vote: (2·2 + 1)/3 for those of its sign.
    merged = elected(base, [first, second, third], [0.5, 0.25, 0.25])
    assert merged.tolist() == pytest.approx([1 + 5 / 3, 1 + 2.5, 1, 2], abs=1e-6)


def test_the_coefficients_of_ties_are_shares_and_their_sum_is_the_scale() -> None:
    base, first, second = vector(0, 0), vector(2, 1), vector(4, -3)
    assert elected(base, [first, second], [0.5, 0.5]).tolist() == [3, -3]
    assert elected(base, [first, second], [1.0, 1.0]).tolist() == [6, -6]
    assert elected(base, [first, second], [0.0, 0.0]).tolist() == [0, 0]


def test_dare_drops_and_rescales_so_that_its_expectation_is_the_model() -> None:
    base, member = vector(1, 2, 3), vector(2, 0, 3)
    draws = [dropped(base, member, 0.75, draw_for(seed)) for seed in range(4000)]
    seen = torch.stack(draws)
    # What is kept counts four times: 1 + 4·1, 2 + 4·(-2); what did not change stays.
    assert set(seen[:, 0].tolist()) == {1.0, 5.0}
    assert set(seen[:, 1].tolist()) == {2.0, -6.0}
    assert set(seen[:, 2].tolist()) == {3.0}
    # The first element's deviation is √(0.75·0.25)·4, or 0.027 for a mean of 4000; four of those.
    assert seen.mean(0).tolist() == pytest.approx(member.tolist(), abs=0.22)
    assert float(seen[:, 0].mean()) == pytest.approx(2, abs=0.11)


def test_dare_drops_the_same_for_the_same_names_and_nothing_at_rate_zero() -> None:
    base, member = random_tensors(2)
    once = dropped(base, member, 0.5, draw_for(1, "north", "mlp"))
    assert torch.equal(once, dropped(base, member, 0.5, draw_for(1, "north", "mlp")))
    assert not torch.equal(once, dropped(base, member, 0.5, draw_for(1, "south", "mlp")))
    assert dropped(base, member, 0.0, draw_for(1)) is member


@pytest.mark.parametrize("method", COMBINE)
def test_a_merge_is_differentiable_in_its_coefficients(method: str) -> None:
    base, first, second = (tensor.clamp(-2, 2) for tensor in random_tensors(3))

    def merged(weights: Tensor) -> Tensor:
        return COMBINE[method](base, [first, second], list(weights.unbind()))

    at = torch.tensor([0.7, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(merged, (at,))


def test_numbers_and_tensors_as_coefficients_give_the_same_merge() -> None:
    base, first, second = random_tensors(3)
    for combine in COMBINE.values():
        numbers = combine(base, [first, second], [0.7, 0.4])
        tensors = combine(
            base, [first, second], list(torch.tensor([0.7, 0.4], dtype=torch.float64).unbind())
        )
        assert torch.allclose(numbers, tensors, rtol=1e-14, atol=1e-14)
