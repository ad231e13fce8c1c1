"""The losses against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from train.ppo.losses import kl_estimate, policy_loss, token_logprobs, value_loss


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_k1_is_the_log_ratio_and_k3_is_never_negative() -> None:
    policy, reference = log(0.5, 0.25), log(0.25, 0.5)
    assert kl_estimate(policy, reference, "k1").tolist() == pytest.approx(
        [math.log(2), -math.log(2)]
    )
    # 1/2 - 1 + ln 2, and 2 - 1 - ln 2.
    assert kl_estimate(policy, reference, "k3").tolist() == pytest.approx([0.193147, 0.306853])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [
        (1.5, 2.0, -2.4, True),
        # A bad token that became likelier still has all its gradient.
        (1.5, -2.0, 3.0, False),
        (0.5, -1.0, 0.8, True),
        (0.5, 1.0, -0.5, False),
        (1.1, 2.0, -2.2, False),
    ],
)
def test_a_ratio_earns_nothing_beyond_the_clip_range(
    ratio: float, advantage: float, loss: float, is_clipped: bool
) -> None:
    old = log(0.1)
    found, clipped = policy_loss(
        old + math.log(ratio), old, torch.tensor([advantage]), epsilon=0.2, epsilon_high=0.2
    )
    assert found.tolist() == pytest.approx([loss])
    assert clipped.tolist() == [is_clipped]


def test_the_upper_bound_can_be_wider() -> None:
    old = log(0.1)
    found, _ = policy_loss(old + math.log(1.5), old, torch.tensor([2.0]), 0.2, epsilon_high=0.28)
    assert found.tolist() == pytest.approx([-2.56])


@pytest.mark.parametrize(
    ("target", "loss", "is_held"),
    [
        # From 0 the value went to 1; held at 0.2 its error is (2 - 0.2)^2 = 3.24.
        (2.0, 1.62, True),
        # Moved away from the target: the error of the value itself, (1 + 1)^2 = 4.
        (-1.0, 2.0, False),
    ],
)
def test_a_value_that_moved_too_far_earns_nothing_for_going_on(
    target: float, loss: float, is_held: bool
) -> None:
    value = torch.tensor([1.0], requires_grad=True)
    found, held = value_loss(value, torch.tensor([0.0]), torch.tensor([target]), epsilon=0.2)
    found.sum().backward()
    assert found.tolist() == pytest.approx([loss])
    assert held.tolist() == [is_held]
    assert value.grad is not None and (value.grad.item() == 0.0) is is_held


def test_uniform_logits_give_each_token_one_in_v() -> None:
    logp, entropy = token_logprobs(torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [3, 0, 1]]), 1.0)
    assert logp.tolist() == [pytest.approx([-math.log(4)] * 3)] * 2
    assert entropy.tolist() == [pytest.approx([math.log(4)] * 3)] * 2


def test_the_temperature_is_that_of_sampling() -> None:
    # At temperature 2 a lead of 2 ln 3 is one of ln 3: three to one.
    logits = torch.tensor([[[2 * math.log(3), 0.0]]])
    logp, entropy = token_logprobs(logits, torch.tensor([[0]]), 2.0)
    assert logp.item() == pytest.approx(math.log(0.75))
    assert entropy.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_logits_in_bfloat16_are_counted_in_fp32_and_have_the_gradient_of_a_log_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5).bfloat16().requires_grad_()
    ids = torch.tensor([[0, 1, 2], [3, 4, 0]])
    logp, _ = token_logprobs(logits, ids, 1.0)
    plain = logits.detach().float().requires_grad_()
    expected = plain.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    logp.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(logp, expected)
    assert logits.grad is not None and plain.grad is not None
    torch.testing.assert_close(logits.grad.float(), plain.grad, atol=4e-3, rtol=4e-3)
