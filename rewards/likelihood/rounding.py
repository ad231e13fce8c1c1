"""Whether likelihoods are the same but for rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.types import Likelihood

# Nats by which a token may cost more or less than expected, in fp32.
TOLERANCE_FP32 = 1e-4


def token_differences(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> list[float]:
    """How much more each token costs than expected, in nats, over all likelihoods."""
    return [
        a - b
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x.token_nll, y.token_nll, strict=True)
    ]


def largest_difference(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> float:
    """The largest difference of a token's cost, in nats."""
    return max(map(abs, token_differences(found, expected)), default=0.0)


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


def same_but_for_rounding(
    model: PreTrainedModel,
    expected: Sequence[Likelihood],
    score_again: Callable[[], Sequence[Likelihood]],
    roundings: float,
) -> Callable[[Sequence[Likelihood]], bool]:
    """Tells whether likelihoods under the model are the expected ones.

    In lower precision than fp32 they may be off (root of the mean square) by `roundings` times what
    the expected ones are off when `score_again` makes them of inputs that are rounded otherwise.
    """
    if model.dtype == torch.float32:
        return lambda found: largest_difference(found, expected) <= TOLERANCE_FP32
    with rounded_otherwise(model):
        allowed = roundings * rms_difference(score_again(), expected)
    return lambda found: rms_difference(found, expected) <= allowed
