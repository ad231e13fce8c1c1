"""From hidden states to the cost of gold tokens, by pencil."""

from __future__ import annotations

import math

import pytest
import torch

from rewards.likelihood.head_product import VOCABULARY_CHUNK, fp32_product, head_product
from rewards.likelihood.logits import gold_nll


def test_uniform_logits_cost_log_vocab_per_gold_token() -> None:
    nll = gold_nll(lambda chunk: torch.zeros(5, 7)[chunk], torch.arange(5), 2)
    assert nll.tolist() == pytest.approx([math.log(7)] * 5)


def test_gold_nll_by_pencil() -> None:
    # Probabilities 1/4 and 3/4 of the gold token.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    nll = gold_nll(lambda chunk: logits[chunk].clone(), torch.tensor([0, 1]), 10)
    assert nll.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


def test_logits_of_any_size_cost_what_their_differences_say() -> None:
    # exp(1000) would overflow, and exp(-1000) leave nothing to take a logarithm of.
    logits = torch.tensor([[1000.0, 1000.0 - math.log(3)], [-1000.0, -1000.0 - math.log(3)]])
    nll = gold_nll(lambda chunk: logits[chunk].clone(), torch.tensor([0, 1]), 1)
    assert nll.tolist() == pytest.approx([math.log(4 / 3), math.log(4)], abs=1e-4)


def test_the_sum_over_the_vocabulary_is_taken_in_fp32() -> None:
    # In bfloat16, log(1000) would come out as 6.90625: off by 0.0015 nats.
    nll = gold_nll(lambda chunk: torch.zeros(1, 1000, dtype=torch.bfloat16), torch.tensor([0]), 1)
    assert nll.dtype == torch.float32
    assert nll.item() == pytest.approx(math.log(1000), abs=1e-6)


@pytest.mark.parametrize(("positions_per_chunk", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_no_more_logits_are_asked_for_than_a_chunk_holds(
    positions_per_chunk: int, sizes: list[int]
) -> None:
    asked: list[int] = []

    def logits_of(chunk: slice) -> torch.Tensor:
        logits = torch.zeros(5, 7)[chunk].clone()
        asked.append(len(logits))
        return logits

    gold_nll(logits_of, torch.arange(5), positions_per_chunk)
    assert asked == sizes


def test_a_product_of_bfloat16_is_exact_up_to_fp32_and_not_rounded_to_bfloat16() -> None:
    # 1 + 2⁻⁸ needs 9 bits, of which bfloat16 keeps 8.
    hidden = torch.tensor([[1.0, 2.0**-8]], dtype=torch.bfloat16)
    weight = torch.ones(3, 2, dtype=torch.bfloat16)
    assert fp32_product(hidden, weight).tolist() == [[1.00390625] * 3]
    assert (hidden @ weight.T).tolist() == [[1.0] * 3]


def test_a_product_is_the_same_in_chunks_of_the_vocabulary() -> None:
    torch.manual_seed(0)
    hidden, weight = (
        torch.randn(n, 8).bfloat16() for n in (5, 2 * VOCABULARY_CHUNK + VOCABULARY_CHUNK // 2)
    )
    torch.testing.assert_close(
        fp32_product(hidden, weight), hidden.float() @ weight.float().T, atol=1e-6, rtol=0
    )


def test_a_head_with_a_bias_adds_it() -> None:
    head = torch.nn.Linear(2, 3).to(torch.bfloat16).requires_grad_(False)
    hidden = torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16)
    exact = hidden.double() @ head.weight.double().T + head.bias.double()
    torch.testing.assert_close(head_product(head, hidden).double(), exact, atol=1e-6, rtol=0)


def test_a_head_that_is_hooked_is_asked_itself() -> None:
    head = torch.nn.Linear(2, 3, bias=False).to(torch.bfloat16).requires_grad_(False)
    head.register_forward_hook(lambda module, inputs, outputs: 2 * outputs)
    hidden = torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16)
    assert torch.equal(head_product(head, hidden), head(hidden).float())
