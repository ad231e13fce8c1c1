"""What a run finds out about scoring before it trains: what fits, and how far rounding goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

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

if TYPE_CHECKING:
    from train.pooled import PooledGenerator

# Plans on which noise is measured: any text does, as the first words of other chapters.
NOISE_PLANS, NOISE_PLAN_WORDS = 3, 40

T = TypeVar("T")


def check_episodes(
    encoder: GeneratorEncoder,
    episodes: Sequence[Episode],
    model: PreTrainedModel | PooledGenerator,
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
    max_tokens = tokens_per_batch(model, config)

    def dense(exact: PreTrainedModel | None) -> DenseScorer | None:
        return exact and DenseScorer(exact, max_tokens, config.positions_per_chunk)

    # One oracle, one precision: where one process lacks the memory for a copy, none takes its own.
    is_exact = model.dtype == torch.float32
    oracle = None if is_exact else if_all_can(lambda: dense(fp32_copy(model)))
    dtype = model.dtype if oracle is None else torch.float32
    oracle = over_processes(oracle or DenseScorer(model, max_tokens), model, config.sharding)
    return _with_line(measure_noise(scorer, oracle, dtype, requests), terms)


def pooled_noise(
    pooled: PooledGenerator, requests: Sequence[ScoreRequest], terms: Sequence[WeightedTerm]
) -> tuple[Noise, str]:
    """The same of a generator in a pool, whose workers have the oracle as well."""
    noise = measure_noise(pooled.scorer, pooled.oracle, pooled.oracle_dtype, requests)
    return _with_line(noise, terms)


def _with_line(noise: Noise, terms: Sequence[WeightedTerm]) -> tuple[Noise, str]:
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
    # One by one: what one process cannot begin, the others must not begin without it.
    whole = if_all_can(lambda: load_frozen(generator, "generator.model")[0])
    whole_scorer = whole and if_all_can(lambda: make_scorer(whole, ScorerConfig()))
    exact = None if whole_scorer is None else if_all_can(lambda: whole_scorer.score(requests))
    if exact is None:
        return (
            "int8 generator: its error was not measured, since the whole generator does not fit "
            "beside it; measure it on a larger device"
        )
    return f"int8 generator: {Departure.between(exact, rounded, requests)}"


def if_all_can(work: Callable[[], T | None]) -> T | None:
    """What each process makes of it; None in all of them where one has none or lacks the memory."""
    found, error = None, None
    try:
        found = work()
    except Exception as caught:
        error = caught
    # What one process raised in scoring, all raise; the one that it came from knows the cause.
    causes = (error, error.__cause__) if error is not None else ()
    is_short = any(isinstance(cause, Exception) and is_out_of_memory(cause) for cause in causes)
    if ranks.any_says(is_short or (error is None and found is None)):
        return None
    if error is not None:
        raise error
    return found
