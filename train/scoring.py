"""The frozen generator as a run asks it: one fast scorer over all processes, and what it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import rewards
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.exactness.departure import Departure
from rewards.exactness.noise import Noise, measure_noise, noise_line
from rewards.likelihood.budget import find_max_tokens
from rewards.likelihood.checks import check_request
from rewards.likelihood.flops import ModelShape
from rewards.likelihood.oracle import dense_oracle
from rewards.prefix.prefix_store import PrefixStore
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.ranks.distributed import DistributedScorer
from rewards.ranks.equal_forwards import EqualForwards
from rewards.ranks.exchange import Exchange
from rewards.stores.generator_key import generator_key
from rewards.stores.likelihood_store import DiskLikelihoodStore
from rewards.types import LikelihoodScorer, ScoreRequest
from rewards.weighted_sum import WeightedTerm, first_threshold
from train.cache import digest, source_fingerprint
from train.frozen import load_frozen, replicas
from train.schema import ModelConfig, ScorerConfig

# Plans on which noise is measured: any text does, as the first words of other chapters.
NOISE_PLANS, NOISE_PLAN_WORDS = 3, 40


def make_scorer(model: PreTrainedModel, config: ScorerConfig) -> LikelihoodScorer:
    """The scorer of this process, or, where there are several, one for all of them together."""
    num_processes = PartialState().num_processes
    exchange = Exchange() if num_processes > 1 else None
    max_tokens = config.max_tokens_per_batch
    if exchange is not None and config.sharding.method == "tensor_parallel":
        # Ranks that compute together must cut their batches alike, whatever memory each has free.
        found = max_tokens or find_max_tokens(model, config.positions_per_chunk)
        max_tokens = min(int(n) for n in exchange.broadcast_all(torch.tensor([found])))
    prefixes = PrefixStore(int(config.prefix_store_gb * 2**30)) if config.prefix_store_gb else None
    scorer = SharedPrefixScorer(model, max_tokens, config.positions_per_chunk, prefixes)
    if exchange is None:
        return scorer
    shape = ModelShape.of(model)
    if config.sharding.method == "none":
        return DistributedScorer(scorer, shape, exchange)
    if config.sharding.method == "fsdp":
        in_step = EqualForwards.of_body(exchange, model)
        return DistributedScorer(scorer, shape, exchange, in_step=in_step)
    _, ranks_per_replica = replicas(config.sharding, num_processes)
    return DistributedScorer(scorer, shape, exchange, ranks_per_replica)


def baseline_store(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> DiskLikelihoodStore:
    """Where the likelihoods without a plan are kept, for all runs with this generator."""
    key = generator_key(
        model,
        tokenizer=digest(tokenizer.get_vocab()),
        template=digest(tokenizer.chat_template),
        code=source_fingerprint(rewards),
    )
    return DiskLikelihoodStore(folder, key)


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
    requests: Sequence[ScoreRequest],
    terms: Sequence[WeightedTerm],
) -> tuple[Noise, str]:
    """What rounding does to rewards, and a line on it, with a warning where that is much.

    With several processes, all have to ask for it together.
    """
    noise = measure_noise(scorer, dense_oracle(model), requests)
    line, is_fine = noise_line(noise, first_threshold(terms))
    return noise, line if is_fine else f"WARNING: {line}"


def int8_error(
    scorer: LikelihoodScorer, generator: ModelConfig, requests: Sequence[ScoreRequest]
) -> str:
    """A line on how far likelihoods under 8-bit weights are from those under the weights as given.

    Those are loaded beside the 8-bit ones for as long as this takes.
    """
    rounded = scorer.score(requests)
    try:
        whole, _ = load_frozen(generator, "generator.model")
        exact = make_scorer(whole, ScorerConfig()).score(requests)
    except torch.OutOfMemoryError:
        return (
            "int8 generator: its error was not measured, since the whole generator does not fit "
            "beside it; measure it on a larger device"
        )
    return f"int8 generator: {Departure.between(exact, rounded, requests)}"
