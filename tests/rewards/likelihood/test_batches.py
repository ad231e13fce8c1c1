"""Batches are within the budget and cheap; where memory runs out, only what failed is redone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch

from rewards.likelihood.back_off import TokenBudget, run_batches
from rewards.likelihood.batches import packed_batches, padded_batches
from rewards.likelihood.budget import MOST_TOKENS, find_max_tokens, tokens_that_fit
from rewards.likelihood.dense import DenseScorer
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.types import ScoreRequest

MakeRequest = Callable[..., ScoreRequest]


def lengths_of(batches: list[list[int]], lengths: Sequence[int]) -> list[list[int]]:
    return [[lengths[i] for i in batch] for batch in batches]


def test_padded_batches_stay_within_the_budget_longest_first() -> None:
    lengths = [3, 1, 5, 2, 4]
    # Calls cost much more than padding. 4 + 4 padded tokens fit into 8, 5 + 5 and 4 + 4 + 4 do not.
    batches = padded_batches(lengths, max_tokens=8, tokens_per_call=100)
    assert lengths_of(batches, lengths) == [[5], [4, 3], [2, 1]]


def test_rows_are_padded_only_where_a_call_costs_more() -> None:
    lengths = [10, 9, 2, 2]
    # One call for all would pad 17 tokens, two calls pad 1 and cost 5 more.
    assert lengths_of(padded_batches(lengths, 100, 5), lengths) == [[10, 9], [2, 2]]
    assert lengths_of(padded_batches(lengths, 100, 20), lengths) == [lengths]
    assert lengths_of(padded_batches(lengths, 100, 0), lengths) == [[10], [9], [2, 2]]


def test_a_row_longer_than_the_budget_stands_alone() -> None:
    lengths = [20, 3, 30, 2]
    assert lengths_of(padded_batches(lengths, 6, 100), lengths) == [[30], [20], [3, 2]]
    assert lengths_of(packed_batches(lengths, 6), lengths) == [[30], [20], [3, 2]]


def test_packed_rows_fill_the_budget() -> None:
    lengths = [4, 6, 5, 3, 2]
    # 6 + 4, 5 + 3 + 2: two full batches of 10.
    assert lengths_of(packed_batches(lengths, 10), lengths) == [[6, 4], [5, 3, 2]]


def test_no_rows_make_no_batches() -> None:
    assert padded_batches([], 8, 1) == packed_batches([], 8) == []


class SmallMemory:
    """A run of batches that has room for so many tokens, and notes what it finished."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.finished: list[list[int]] = []

    def run(self, batch: Sequence[ScoreRequest]) -> list[int]:
        sizes = [r.num_tokens for r in batch]
        if sum(sizes) > self.max_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.finished.append(sizes)
        return sizes


def run(requests: Sequence[ScoreRequest], memory: SmallMemory, budget: TokenBudget) -> list[int]:
    done = run_batches(requests, lambda r: r.num_tokens, packed_batches, memory.run, budget)
    return [done[r] for r in requests]


def test_out_of_memory_halves_the_budget_and_loses_no_finished_work(
    make_request: MakeRequest,
) -> None:
    requests = [make_request(0, 1, n - 1, seed=n) for n in (30, 10, 25, 24, 4)]
    memory, budget = SmallMemory(max_tokens=50), TokenBudget(60)
    # 30 + 25 + 4 tokens fail, so at most 29 go together from there on; 24 + 10 were planned before.
    assert run(requests, memory, budget) == [30, 10, 25, 24, 4]
    assert budget.max_tokens == 29
    assert memory.finished == [[30], [25, 4], [24, 10]]
    # The next call begins with what was learned.
    assert run(requests, memory, budget) == [30, 10, 25, 24, 4]
    assert memory.finished[3:] == [[30], [25, 4], [24], [10]]


def test_a_request_that_does_not_fit_alone_is_an_error_that_names_the_episode(
    make_request: MakeRequest,
) -> None:
    requests = [make_request(0, 1, n, seed=n, episode=n) for n in (9, 60)]
    with pytest.raises(ValueError, match="episode book/60: one sequence of 61 tokens does not fit"):
        run(requests, SmallMemory(50), TokenBudget(100))


def test_an_error_that_is_not_about_memory_is_passed_on(make_request: MakeRequest) -> None:
    def fail(batch: Sequence[ScoreRequest]) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_batches(
            [make_request(1, 1, 1)], lambda r: r.num_tokens, packed_batches, fail, TokenBudget(8)
        )


@pytest.mark.parametrize("scorer_class", [DenseScorer, SharedPrefixScorer])
def test_a_scorer_whose_device_is_small_gives_the_same_scores(
    make_family: Callable[..., torch.nn.Module],
    make_request: MakeRequest,
    scorer_class: type[DenseScorer],
) -> None:
    requests = [make_request(140, n, 20, seed=n) for n in range(6)]
    expected = scorer_class(make_family("llama")).score(requests)
    model = make_family("llama")
    sizes: list[int] = []

    def small(module: torch.nn.Module, args: tuple, kwargs: dict[str, torch.Tensor]) -> None:
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.get_submodule("model").register_forward_pre_hook(small, with_kwargs=True)
    found = scorer_class(model).score(requests)
    assert max(sizes) > 200
    for a, b in zip(found, expected, strict=True):
        assert a.token_nll == pytest.approx(b.token_nll, abs=1e-5)


def test_the_budget_of_an_accelerator_by_pencil() -> None:
    gib = 2**30
    # 0.7 · 10 GiB less 1 GiB of logits are 6 GiB; at 1 MiB a token, 6,144 tokens.
    assert tokens_that_fit(10 * gib, gib, 2**20) == pytest.approx(6144, abs=1)
    assert tokens_that_fit(10_000 * gib, gib, 2**20) == MOST_TOKENS
    assert tokens_that_fit(gib, gib, 2**20) == 1


def test_the_budget_on_a_cpu_is_its_own(make_family: Callable[..., torch.nn.Module]) -> None:
    assert DenseScorer(make_family("llama")).budget.max_tokens == 4_096
    assert find_max_tokens(make_family("llama"), 256) == 4_096


def test_a_budget_only_ever_shrinks() -> None:
    budget = TokenBudget(100)
    sizes = []
    for failed in (80, 90, 1, 1):
        budget.shrink(failed)
        sizes.append(budget.max_tokens)
    assert all(a >= b for a, b in pairwise(sizes))
    assert sizes == [40, 20, 1, 1]
