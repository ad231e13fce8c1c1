"""What is packed comes out as it went in, and shared parts travel once."""

from __future__ import annotations

import math

import pytest
import torch

from rewards.ranks.packing import (
    pack_error,
    pack_likelihoods,
    pack_requests,
    packed_bytes,
    unpack_error,
    unpack_likelihoods,
    unpack_requests,
)
from rewards.types import Likelihood, ScoreRequest

PREFIX, GOLD = tuple(range(100)), (7, 2**31 - 1)
REQUESTS = [
    ScoreRequest("bóok/1", PREFIX, (), GOLD),
    ScoreRequest("bóok/1", PREFIX, (5,), GOLD),
    ScoreRequest("", (), (1, 2, 3), ()),
]


@pytest.mark.parametrize("requests", [REQUESTS, []])
def test_requests_come_out_as_they_went_in(requests: list[ScoreRequest]) -> None:
    assert unpack_requests(pack_requests(requests)) == requests


def test_a_shared_prefix_is_packed_once() -> None:
    # The name has 7 bytes; the sequence of no ids is the first plan, and much else of the third.
    lens = [7, len(PREFIX), 0, len(GOLD), 1, 3]
    # 2 counts, 6 lengths, 3 x 4 places and 113 ids, of 4 bytes each.
    assert len(pack_requests(REQUESTS)) == 4 * (2 + 6 + 12 + 113) == packed_bytes(3, lens)


def test_likelihoods_come_out_bit_for_bit() -> None:
    likelihoods = [Likelihood(1 / 3, (0.1, 2**-1074)), Likelihood(5.0, (5.0,)), Likelihood(0, ())]
    message = pack_likelihoods(likelihoods)
    assert unpack_error(message) is None
    assert unpack_likelihoods(message, [2, 1, 0]) == likelihoods
    assert len(message) == 1 + 8 * (3 + 3)


@pytest.mark.parametrize(
    ("error", "family", "text"),
    [
        (ValueError("episode ß: empty"), ValueError, "episode ß: empty"),
        (FileNotFoundError(2, "gone", "weights"), OSError, "[Errno 2] gone: 'weights'"),
        (torch.OutOfMemoryError("too much"), RuntimeError, "too much"),
        (KeyError("layer"), RuntimeError, "KeyError: 'layer'"),
        (AssertionError(), RuntimeError, "AssertionError: "),
    ],
)
def test_an_error_keeps_its_family_and_text(
    error: Exception, family: type[Exception], text: str
) -> None:
    assert unpack_error(pack_error(error)) == (family, text)


def test_not_a_number_travels_too() -> None:
    (found,) = unpack_likelihoods(pack_likelihoods([Likelihood(math.nan, ())]), [0])
    assert math.isnan(found.nll)
