"""From hidden states to the cost of gold tokens, by pencil."""

from __future__ import annotations

import math

import pytest
import torch

from rewards.logits import gold_nll


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
