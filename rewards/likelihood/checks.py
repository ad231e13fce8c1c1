"""What a request and a likelihood must be; every message names the episode."""

from __future__ import annotations

import math

from torch import Tensor
from transformers import PretrainedConfig

from rewards.likelihood.model_limits import context_window, vocabulary_size
from rewards.types import Likelihood, ScoreRequest


def check_request(request: ScoreRequest, config: PretrainedConfig) -> None:
    """Refuses what no scorer can score under a model of this config.

    Raises:
        ValueError: there is no gold token, nothing before it, a token that the model does not know,
            or more than the model's context.
    """
    if not request.gold_ids:
        raise ValueError(f"episode {request.episode_id}: the gold chapter is empty.")
    if not request.prefix_ids and not request.guidance_ids:
        raise ValueError(
            f"episode {request.episode_id}: nothing stands before the gold chapter; "
            "its first token has no prediction."
        )
    num_known = vocabulary_size(config)
    ids = request.token_ids
    if num_known is not None and not 0 <= min(ids) <= max(ids) < num_known:
        raise ValueError(
            f"episode {request.episode_id}: token ids from {min(ids)} to {max(ids)} are not all in "
            f"the generator's vocabulary of {num_known}; encode with the generator's own tokenizer."
        )
    longest = context_window(config)
    if longest is not None and request.num_tokens > longest:
        raise ValueError(
            f"episode {request.episode_id}: {request.num_tokens} tokens exceed the generator's "
            f"context of {longest}; lower generator.max_context_tokens or max_gold_tokens, or say "
            "by generator.gives_way what is to be cut."
        )


def check_plain(request: ScoreRequest) -> None:
    """Refuses a request for several generators, which a scorer of one would score wrongly.

    Raises:
        ValueError: the request carries a mixture.
    """
    if request.mixture is not None:
        raise ValueError(
            f"episode {request.episode_id}: the request combines the generators "
            f"{', '.join(request.mixture.generators)}, and this scorer has one; "
            "score it with rewards.likelihood.mixture.MixtureScorer."
        )


def finite_likelihood(request: ScoreRequest, nll_N: Tensor) -> Likelihood:
    """The likelihood made of the gold tokens' costs.

    Raises:
        ValueError: a cost is not finite.
    """
    total = nll_N.double().sum().item()
    if not math.isfinite(total):
        raise ValueError(
            f"episode {request.episode_id}: the generator gave a likelihood of {total}; "
            "load it in float32 or bfloat16, or check its weights."
        )
    return Likelihood(total, tuple(nll_N.tolist()))
