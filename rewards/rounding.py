"""How far likelihoods differ, and how far rounding alone drives them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.types import Likelihood


def token_differences(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> list[float]:
    """How much more each token costs than expected, in nats, over all likelihoods."""
    return [
        a - b
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x.token_nll, y.token_nll, strict=True)
    ]


def largest_difference(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> float:
    """The largest difference of a token's cost, in nats."""
    return max(map(abs, token_differences(found, expected)))


def rms_difference(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> float:
    """The root of the mean square difference of the tokens' costs, in nats."""
    differences = token_differences(found, expected)
    return math.sqrt(sum(d * d for d in differences) / len(differences))


@contextmanager
def rounded_otherwise(model: PreTrainedModel, seed: int = 0) -> Iterator[None]:
    """Within it, the model's embeddings are off by up to one unit in the last place, at random.

    What that changes is what rounding does to this model, whatever made it round.
    """
    generator = torch.Generator().manual_seed(seed)

    def nudge(module: torch.nn.Module, inputs: object, embedded: Tensor) -> Tensor:
        random = torch.rand(embedded.shape, generator=generator).to(embedded.device)
        unit = torch.finfo(embedded.dtype).eps
        return (embedded.float() * (1 + (2 * random - 1) * unit)).to(embedded.dtype)

    handle = model.get_input_embeddings().register_forward_hook(nudge)
    try:
        yield
    finally:
        handle.remove()
