"""One chapter under two tokenizers: nats of the one, dealt out to the tokens of the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rewards.types import Likelihood


def realigned(likelihood: Likelihood, ends: Sequence[int], other_ends: Sequence[int]) -> Likelihood:
    """The likelihood of the same text over another tokenizer's tokens; the sum stays what it is.

    `ends[i]` is the byte of the text at which token i ends, `other_ends` are those of the other
    tokenizer. A token's nats are spread evenly over its bytes; of tokens that end at one byte, as
    the parts of one character do, the first has them all.

    With it, models of different tokenizers are compared by what they say of the same text, in nats
    for each token of the reference, which is the same as in bits per byte.

    Raises:
        ValueError: the two do not end at the same byte, so that they are not of one text.
    """
    if not ends or not other_ends or ends[-1] != other_ends[-1]:
        raise ValueError(
            f"two tokenizers have to cut the same chapter to be compared; one ends at byte "
            f"{ends[-1] if ends else 0}, the other at {other_ends[-1] if other_ends else 0}. Leave "
            "out generator.max_gold_tokens, or take a generator with a longer window"
        )
    dealt: list[float] = []
    token, token_start, spent = 0, 0, 0.0
    for end in other_ends:
        nats = 0.0
        while token < len(ends) and ends[token] <= end:
            nats += likelihood.token_nll[token] - spent
            token_start, spent, token = ends[token], 0.0, token + 1
        if token < len(ends) and end > token_start:
            share = (end - token_start) / (ends[token] - token_start)
            until_here = likelihood.token_nll[token] * share
            nats += until_here - spent
            spent = until_here
        dealt.append(nats)
    return Likelihood(math.fsum(dealt), tuple(dealt))
