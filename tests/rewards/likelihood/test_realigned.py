"""Nats of one tokenizer on the tokens of another."""

from __future__ import annotations

import pytest

from rewards.likelihood.realigned import realigned
from rewards.types import Likelihood


def test_a_token_s_nats_are_spread_evenly_over_its_bytes() -> None:
    # "abcd|ef" costs 4 + 1 nats: "ab" has half of the first token, "cde" the other half and half
    # of the second, "f" the rest.
    found = realigned(Likelihood(5.0, (4.0, 1.0)), [4, 6], [2, 5, 6])
    assert found == Likelihood(5.0, (2.0, 2.5, 0.5))


def test_the_same_tokens_keep_what_they_have() -> None:
    own = Likelihood(6.0, (1.0, 2.0, 3.0))
    assert realigned(own, [1, 4, 9], [1, 4, 9]) == own


def test_finer_tokens_are_gathered_in_coarser_ones() -> None:
    found = realigned(Likelihood(10.0, (1.0, 2.0, 3.0, 4.0)), [1, 2, 3, 4], [3, 4])
    assert found == Likelihood(10.0, (6.0, 4.0))


def test_of_tokens_that_end_at_one_byte_the_first_has_them_all() -> None:
    assert realigned(Likelihood(3.0, (1.0, 2.0)), [3, 3], [3, 3]).token_nll == (3.0, 0.0)


@pytest.mark.parametrize(("ends", "other"), [([2, 4], [2, 3]), ([], [1])])
def test_different_texts_are_refused(ends: list[int], other: list[int]) -> None:
    nll = (1.0,) * len(ends)
    with pytest.raises(ValueError, match="cut the same chapter"):
        realigned(Likelihood(sum(nll), nll), ends, other)
