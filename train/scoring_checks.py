"""What a run finds out about scoring before it trains: what fits, and how far rounding goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.exactness.departure import Departure
from rewards.exactness.noise import Noise, measure_noise, noise_line
from rewards.likelihood.back_off import is_out_of_memory
from rewards.likelihood.checks import check_request
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.oracle import fp32_copy
from rewards.types import LikelihoodScorer, ScoreRequest
from rewards.weighted_sum import WeightedTerm, first_threshold
from train import ranks
from train.frozen import load_frozen
from train.schema import ModelConfig, ScorerConfig
from train.scoring import make_scorer, over_processes, tokens_per_batch

# Plans on which noise is measured: any text does, as the first words of other chapters.
NOISE_PLANS, NOISE_PLAN_WORDS = 3, 40

T = TypeVar("T")


def check_episodes(
    encoder: GeneratorEncoder, episodes: Sequence[Episode], model: PreTrainedModel
) -> str:
    """A line on what of the episodes the generator sees.

    Raises:
        ValueError: an episode cannot be scored even without a plan, or has no room for one; the
            message names it.
    """
    least_room: int | None = None
    for episode in episodes:
        check_request(encoder.request(episode), model.config)
        room = encoder.plan_room(episode)
        if room == 0:
            raise ValueError(
                f"episode {episode.episode_id}: the generator's window has no room for a plan; "
                "lower generator.max_context_tokens or max_gold_tokens, or let one of them give "
                "way (generator.gives_way)"
            )
        if room is not None:
            least_room = room if least_room is None else min(room, least_room)
    cuts = Counter(part for episode in episodes for part in encoder.cut(episode))
    shortened = "".join(
        f"; {cuts[part]} of {len(episodes)} episodes: {part} cut" for part in sorted(cuts)
    )
    room_for_plans = "" if least_room is None else f"; plans have {least_room} tokens at least"
    return f"{encoder.window}{room_for_plans}{shortened}"


def probe_requests(encoder: GeneratorEncoder, episodes: Sequence[Episode]) -> list[ScoreRequest]:
    """Of each episode, the request without a plan, then those with `NOISE_PLANS` plans."""
    texts = [" ".join(e.chapter.text.split()[:NOISE_PLAN_WORDS]) for e in episodes]
    return [
        encoder.request(episode, plan)
        for episode in episodes
        for plan in ["", *texts[:NOISE_PLANS]]
    ]


def scoring_noise(
    scorer: LikelihoodScorer,
    model: PreTrainedModel,
    config: ScorerConfig,
    requests: Sequence[ScoreRequest],
    terms: Sequence[WeightedTerm],
) -> tuple[Noise, str]:
    """What rounding does to rewards, and a line on it, with a warning where that is much.

    With several processes, all have to ask for it together.
    """
    copied = model if model.dtype == torch.float32 else fp32_copy(model)
    # One oracle, one precision: where one process lacks the memory for a copy, none takes its own.
    is_missing = ranks.any_says(copied is None)
    exact = model if copied is None or is_missing else copied
    dense = DenseScorer(exact, tokens_per_batch(model, config), config.positions_per_chunk)
    noise = measure_noise(
        scorer, over_processes(dense, model, config.sharding), exact.dtype, requests
    )
    line, is_fine = noise_line(noise, first_threshold(terms))
    return noise, line if is_fine else f"WARNING: {line}"


def int8_error(
    scorer: LikelihoodScorer, generator: ModelConfig, requests: Sequence[ScoreRequest]
) -> str:
    """A line on how far likelihoods under 8-bit weights are from those under the weights as given.

    Those are loaded beside the 8-bit ones for as long as this takes. With several processes, all
    have to ask for it together.
    """
    rounded = scorer.score(requests)
    whole = _unless_memory_is_short(lambda: load_frozen(generator, "generator.model")[0])
    exact = whole and _unless_memory_is_short(
        lambda: make_scorer(whole, ScorerConfig()).score(requests)
    )
    if exact is None:
        return (
            "int8 generator: its error was not measured, since the whole generator does not fit "
            "beside it; measure it on a larger device"
        )
    return f"int8 generator: {Departure.between(exact, rounded, requests)}"


def _unless_memory_is_short(work: Callable[[], T]) -> T | None:
    """What all processes make of it; None, in all of them, where one ran out of memory."""
    found, error = None, None
    try:
        found = work()
    except Exception as caught:
        error = caught
    # What one process raised in scoring, all raise; the one it came from knows the cause.
    causes = () if error is None else (error, error.__cause__)
    if ranks.any_says(any(isinstance(e, Exception) and is_out_of_memory(e) for e in causes)):
        return None
    if error is not None:
        raise error
    return found
