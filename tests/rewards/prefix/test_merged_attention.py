"""Attention to two sets of keys is the two attentions, merged by their log-sum-exps."""

from __future__ import annotations

import math

import pytest
import torch

from rewards.prefix.merged_attention import attend, merge


def test_merging_by_pencil() -> None:
    # Keys of weights 1 and 3 behind values 10 and 20, and one of weight 4 behind 40:
    # (1 · 10 + 3 · 20 + 4 · 40) / 8 = 28.75.
    first, first_lse = torch.tensor([[[17.5]]]), torch.tensor([[math.log(4)]])
    second, second_lse = torch.tensor([[[40.0]]]), torch.tensor([[math.log(4)]])
    assert merge(first, first_lse, second, second_lse).item() == pytest.approx(28.75)


def test_where_one_part_outweighs_all_the_other_counts_for_nothing() -> None:
    one, other = torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]])
    huge, tiny = torch.tensor([[1e4]]), torch.tensor([[-1e4]])
    assert merge(one, huge, other, tiny).item() == 1.0
    assert merge(one, tiny, other, huge).item() == 2.0


@pytest.mark.parametrize("heads", [2, 4, 6])
def test_merged_attention_is_attention_to_all_keys(heads: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(1, heads, 5, 8)
    prefix_key, prefix_value = torch.randn(2, 1, 2, 7, 8)
    own_key, own_value = torch.randn(2, 1, 2, 5, 8)
    merged = merge(
        *attend(query, prefix_key, prefix_value, False, 0.3),
        *attend(query, own_key, own_value, True, 0.3),
    )
    mask = torch.ones(5, 12, dtype=torch.bool).tril(7)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query,
        torch.cat([prefix_key, own_key], 2).repeat_interleave(heads // 2, 1),
        torch.cat([prefix_value, own_value], 2).repeat_interleave(heads // 2, 1),
        attn_mask=mask,
        scale=0.3,
    )
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)
