"""Prefixes are kept within a budget, and come back as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from rewards.prefix.prefix import Prefix, prefill
from rewards.prefix.prefix_store import PrefixStore

# 2 layers, keys and values, 2 heads of 8 numbers in fp32, 40 tokens; and a state of 32 numbers.
BYTES = 2 * 2 * 2 * 8 * 4 * 40 + 4 * 32


@pytest.fixture
def prefix(make_model: Callable[..., PreTrainedModel]) -> Prefix:
    return prefill(make_model("llama").eval(), tuple(range(5, 45)))


def test_a_prefix_comes_back_bit_for_bit_and_costs_what_its_tensors_do(prefix: Prefix) -> None:
    store = PrefixStore(BYTES)
    store.put((1,), prefix)
    assert store.num_bytes == BYTES
    found = store.get((1,))
    assert found is not None and found.num_tokens == prefix.num_tokens
    assert all(torch.equal(a, b) for a, b in zip(found.tensors, prefix.tensors, strict=True))


def test_the_least_recently_used_goes_first(prefix: Prefix) -> None:
    store = PrefixStore(max_bytes=2 * BYTES + 1)
    for i in (1, 2):
        store.put((i,), prefix)
    assert store.get((1,)) is not None
    store.put((3,), prefix)
    # Two fit, and 2 was used longest ago.
    assert [store.get((i,)) is not None for i in (1, 2, 3)] == [True, False, True]
    assert (store.num_bytes, store.num_evicted) == (2 * BYTES, 1)
    assert (store.num_hits, store.num_misses) == (3, 1)


def test_a_prefix_put_again_is_counted_once(prefix: Prefix) -> None:
    store = PrefixStore(max_bytes=BYTES)
    store.put((1,), prefix)
    store.put((1,), prefix)
    assert (store.num_bytes, store.num_evicted) == (BYTES, 0)


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out(prefix: Prefix) -> None:
    store = PrefixStore(max_bytes=BYTES)
    store.put((1,), prefix)
    wide = replace(prefix, last_hidden_1H=torch.zeros(1, 33))
    store.put((2,), wide)
    assert store.get((2,)) is None and store.get((1,)) is not None


def test_a_view_keeps_nothing_but_what_it_shows_alive(prefix: Prefix) -> None:
    store = PrefixStore(max_bytes=BYTES)
    store.put((1,), replace(prefix, last_hidden_1H=torch.zeros(1000, 32)[:1]))
    found = store.get((1,))
    assert found is not None and found.last_hidden_1H.untyped_storage().nbytes() == 4 * 32


def test_a_budget_is_not_negative() -> None:
    with pytest.raises(ValueError, match="max_bytes must not be negative; got -1"):
        PrefixStore(-1)
