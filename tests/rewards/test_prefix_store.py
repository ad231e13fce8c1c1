"""A stored prefix goes on as the prefilled one does, within its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from rewards.prefix_store import PrefixStore

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    # A window shorter than the prefix.
    "mistral": {"sliding_window": 8},
    # Convolution states, which change in place.
    "lfm2": {
        "layer_types": ["conv", "full_attention"],
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": False,
    },
    # Recurrent and convolution states beside keys and values.
    "falcon_h1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
    },
}
TEN_FLOATS = torch.arange(10.0)


@dataclass(frozen=True)
class Prefilled:
    """What a scorer keeps of a prefix."""

    cache: Cache
    last_hidden_BH: Tensor


def prefill(model: PreTrainedModel, ids_BT: Tensor) -> Prefilled:
    cache = DynamicCache(config=model.config)
    hidden = model.base_model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
    return Prefilled(cache, hidden.last_hidden_state[:, -1])


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_stored_prefix_goes_on_exactly_as_the_first_time_and_the_second(
    make_model: Callable[..., PreTrainedModel], family: str
) -> None:
    model = make_model(family, **FAMILIES[family]).eval()
    prefix_BT, rest_BT = torch.arange(5, 25)[None], torch.arange(30, 37)[None]

    def goes_on(state: Prefilled) -> Tensor:
        return model(input_ids=rest_BT, past_key_values=state.cache, use_cache=True).logits

    store = PrefixStore(2**20)
    made = prefill(model, prefix_BT)
    store.put(tuple(prefix_BT[0].tolist()), made)
    expected = goes_on(made)
    # Going on changed the cache that was put and then the one that was got, but not the store's.
    for _ in range(2):
        found = store.get(tuple(prefix_BT[0].tolist()))
        assert found is not None
        assert torch.equal(found.last_hidden_BH, made.last_hidden_BH)
        assert torch.equal(goes_on(found), expected)


def test_the_least_recently_used_goes_first() -> None:
    store = PrefixStore(max_bytes=100)
    for i in (1, 2):
        store.put((i,), [TEN_FLOATS])
    assert store.get((1,)) is not None
    store.put((3,), [TEN_FLOATS])
    # 40 bytes each: two fit into 100, and 2 was used longest ago.
    assert [store.get((i,)) is not None for i in (1, 2, 3)] == [True, False, True]
    assert (store.num_bytes, store.num_evicted, store.num_hits, store.num_misses) == (80, 1, 3, 1)


def test_a_prefix_put_again_is_counted_once() -> None:
    store = PrefixStore(max_bytes=100)
    store.put((1,), [TEN_FLOATS])
    store.put((1,), [TEN_FLOATS[:5]])
    assert store.num_bytes == 20
    (kept,) = store.get((1,)) or ()
    assert kept.tolist() == [0, 1, 2, 3, 4]


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out() -> None:
    store = PrefixStore(max_bytes=50)
    store.put((1,), [TEN_FLOATS])
    store.put((2,), [torch.zeros(20)])
    assert store.get((2,)) is None
    assert store.get((1,)) is not None


def test_a_view_costs_what_it_shows() -> None:
    store = PrefixStore(max_bytes=50)
    store.put((1,), {"window": torch.zeros(1000)[:5], "expanded": torch.zeros(1).expand(5)})
    assert store.num_bytes == 40
    assert store.get((1,)) is not None


def test_a_miss_is_made_once() -> None:
    store = PrefixStore(max_bytes=100)
    made: list[int] = []

    def make() -> list[Tensor]:
        made.append(1)
        return [TEN_FLOATS]

    first, second = (store.get_or_make((1,), make) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert len(made) == 1


def test_a_budget_is_not_negative() -> None:
    with pytest.raises(ValueError, match="max_bytes must not be negative; got -1"):
        PrefixStore(-1)
