"""Requests, likelihoods and errors as bytes, so that they travel between ranks without pickle."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from rewards.types import Likelihood, ScoreRequest, TokenIds

# Token ids and lengths take this many bytes each; likelihoods, in float64, twice as many.
INT_BYTES = 4
HEADER_INTS = 2
INTS_PER_REQUEST = 4

# An answer opens with one byte: likelihoods follow, or the text of an error of this family.
LIKELIHOODS = 0
ERROR_FAMILIES: dict[int, type[Exception]] = {1: ValueError, 2: OSError, 3: RuntimeError}


def check_packable(request: ScoreRequest) -> None:
    """Refuses a request that does not fit into a message.

    Raises:
        ValueError: one of its ids takes more than 4 bytes; the message names the episode.
    """
    limit = 1 << (8 * INT_BYTES - 1)
    ids = request.token_ids
    if ids and not -limit <= min(ids) <= max(ids) < limit:
        raise ValueError(
            f"episode {request.episode_id}: a token id is {max(ids, key=abs)}, which no vocabulary "
            "has; encode with the generator's own tokenizer."
        )


def pack_requests(requests: Sequence[ScoreRequest]) -> Tensor:
    """Shape [bytes], uint8. What requests have in common, a prefix or a chapter, is in it once."""
    places: dict[TokenIds, int] = {}
    rows = [
        [places.setdefault(ids, len(places)) for ids in _sequences(request)] for request in requests
    ]
    message = array("i", [len(places), len(rows), *map(len, places)])
    for row in rows:
        message.extend(row)
    for ids in places:
        message.extend(ids)
    return _as_tensor(message.tobytes())


def packed_bytes(num_requests: int, sequence_lens: Sequence[int]) -> int:
    """Length of what `pack_requests` makes of so many requests, given their distinct sequences."""
    ints = HEADER_INTS + len(sequence_lens) + INTS_PER_REQUEST * num_requests + sum(sequence_lens)
    return INT_BYTES * ints


def unpack_requests(message: Tensor) -> list[ScoreRequest]:
    ints = array("i", _as_bytes(message))
    num_sequences, num_requests = ints[:HEADER_INTS]
    start = HEADER_INTS + num_sequences
    lens = ints[HEADER_INTS:start]
    rows = [
        ints[start + INTS_PER_REQUEST * i : start + INTS_PER_REQUEST * (i + 1)]
        for i in range(num_requests)
    ]
    start += INTS_PER_REQUEST * num_requests
    sequences: list[TokenIds] = []
    for num_ids in lens:
        sequences.append(tuple(ints[start : start + num_ids]))
        start += num_ids
    return [
        ScoreRequest(
            bytes(sequences[name]).decode(), sequences[prefix], sequences[guidance], sequences[gold]
        )
        for name, prefix, guidance, gold in rows
    ]


def pack_likelihoods(likelihoods: Sequence[Likelihood]) -> Tensor:
    """Shape [bytes], uint8; float64 throughout, so every number arrives bit for bit."""
    values = array("d")
    for likelihood in likelihoods:
        values.append(likelihood.nll)
        values.extend(likelihood.token_nll)
    return _as_tensor(bytes([LIKELIHOODS]) + values.tobytes())


def pack_error(error: Exception) -> Tensor:
    """Shape [bytes], uint8: the error's family and its text."""
    families = [code for code, family in ERROR_FAMILIES.items() if isinstance(error, family)]
    # What only we can get wrong, an assertion say, is known by its name.
    text = str(error) if families else f"{type(error).__name__}: {error}"
    return _as_tensor(bytes([families[0] if families else 3]) + _encoded(text))


def unpack_error(message: Tensor) -> tuple[type[Exception], str] | None:
    """The family and text of an error, or None where the answer is likelihoods."""
    content = _as_bytes(message)
    if content[0] == LIKELIHOODS:
        return None
    return ERROR_FAMILIES[content[0]], content[1:].decode()


def raise_first_error(replies: Sequence[Tensor], own: Exception | None = None) -> None:
    """Raises, on every rank alike, the error of the first rank that had one."""
    errors = [unpack_error(reply) for reply in replies]
    for rank, error in enumerate(errors):
        if error is not None:
            family, text = error
            raise family(f"scoring failed on rank {rank}: {text}") from own


def unpack_likelihoods(message: Tensor, gold_lens: Sequence[int]) -> list[Likelihood]:
    """The likelihoods of requests with so many gold tokens each."""
    values = array("d", _as_bytes(message)[1:])
    assert len(values) == sum(gold_lens) + len(gold_lens)
    likelihoods = []
    start = 0
    for num_tokens in gold_lens:
        nll, *token_nll = values[start : start + 1 + num_tokens]
        likelihoods.append(Likelihood(nll, tuple(token_nll)))
        start += 1 + num_tokens
    return likelihoods


def _sequences(request: ScoreRequest) -> tuple[TokenIds, ...]:
    name = tuple(_encoded(request.episode_id))
    return name, request.prefix_ids, request.guidance_ids, request.gold_ids


def _encoded(text: str) -> bytes:
    # A lone surrogate, as JSON can hold one, must not keep a rank from answering.
    return text.encode(errors="backslashreplace")


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _as_bytes(message: Tensor) -> bytes:
    return message.numpy().tobytes()
