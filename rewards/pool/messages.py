"""Groups of requests as bytes, on their way to a worker and back: nothing is pickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from rewards.likelihood.checks import check_plain
from rewards.ranks.packing import (
    check_packable,
    pack_error,
    pack_likelihoods,
    pack_requests,
    unpack_error,
    unpack_likelihoods,
    unpack_requests,
)
from rewards.types import Likelihood, ScoreRequest

# A message opens with one byte: who is to score it.
FAST, ORACLE = 0, 1
_COUNT_BYTES = 4


def pack_group(requests: Sequence[ScoreRequest], who: int) -> bytes:
    """One group, with who scores it and which of its requests are scored by themselves.

    Raises:
        ValueError: a request cannot travel; the message names the episode.
    """
    for request in requests:
        check_plain(request)
        check_packable(request)
    count = len(requests).to_bytes(_COUNT_BYTES, "little")
    alone = bytes(int(request.by_itself) for request in requests)
    return bytes([who]) + count + alone + pack_requests(requests).numpy().tobytes()


def unpack_group(message: bytes) -> tuple[int, list[ScoreRequest]]:
    """Who is to score it, and the requests."""
    start = 1 + _COUNT_BYTES
    count = int.from_bytes(message[1:start], "little")
    alone = message[start : start + count]
    requests = unpack_requests(_as_tensor(message[start + count :]))
    return message[0], [
        replace(request, by_itself=bool(flag))
        for request, flag in zip(requests, alone, strict=True)
    ]


def pack_answer(likelihoods: Sequence[Likelihood]) -> bytes:
    return pack_likelihoods(likelihoods).numpy().tobytes()


def pack_failure(error: Exception) -> bytes:
    return pack_error(error).numpy().tobytes()


def unpack_answer(answer: bytes, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
    """The likelihoods of these requests, in order.

    Raises:
        ValueError, OSError, RuntimeError: what the worker raised, by its family.
    """
    error = unpack_error(_as_tensor(answer))
    if error is not None:
        family, text = error
        raise family(text)
    return unpack_likelihoods(_as_tensor(answer), [len(r.gold_ids) for r in requests])


def _as_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
