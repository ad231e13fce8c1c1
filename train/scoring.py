"""The frozen generator as a run asks it: one fast scorer over all processes, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import rewards
from envs.types import Episode
from rewards.distributed import DistributedScorer
from rewards.encode import GeneratorEncoder
from rewards.exchange import Exchange
from rewards.flops import ModelShape
from rewards.generator_key import generator_key
from rewards.likelihood_store import DiskLikelihoodStore
from rewards.noise import measure_noise, noise_line
from rewards.oracle import dense_oracle
from rewards.prefix_store import PrefixStore
from rewards.shared_prefix import SharedPrefixScorer
from rewards.types import LikelihoodScorer
from rewards.weighted_sum import WeightedTerm, first_threshold
from train.cache import digest, source_fingerprint
from train.schema import ScorerConfig

# Plans on which noise is measured: any text does, as the first words of other chapters.
NOISE_PLANS, NOISE_PLAN_WORDS = 3, 40


def make_scorer(model: PreTrainedModel, config: ScorerConfig) -> LikelihoodScorer:
    """The scorer of this process, or, where there are several, one for all of them together."""
    prefixes = PrefixStore(int(config.prefix_store_gb * 2**30)) if config.prefix_store_gb else None
    scorer = SharedPrefixScorer(
        model, config.max_tokens_per_batch, config.positions_per_chunk, prefixes
    )
    if PartialState().num_processes == 1:
        return scorer
    return DistributedScorer(scorer, ModelShape.of(model), Exchange())


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


def scoring_noise(
    scorer: LikelihoodScorer,
    model: PreTrainedModel,
    encoder: GeneratorEncoder,
    episodes: Sequence[Episode],
    terms: Sequence[WeightedTerm],
) -> tuple[str, bool]:
    """What rounding does to the rewards of these episodes: a line to print, and whether it is fine.

    With several processes, all have to ask for it together.
    """
    texts = [" ".join(e.chapter.text.split()[:NOISE_PLAN_WORDS]) for e in episodes]
    requests = [
        encoder.request(episode, plan)
        for episode in episodes
        for plan in ["", *texts[:NOISE_PLANS]]
    ]
    noise = measure_noise(scorer, dense_oracle(model), requests)
    return noise_line(noise, first_threshold(terms))
