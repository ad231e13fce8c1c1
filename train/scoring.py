"""The frozen generator as a run asks it: one fast scorer over all processes, and what it keeps."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import rewards
from rewards.likelihood.budget import find_max_tokens
from rewards.likelihood.flops import ModelShape
from rewards.prefix.prefix_store import PrefixStore
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.ranks.distributed import DistributedScorer
from rewards.ranks.equal_forwards import EqualForwards
from rewards.ranks.exchange import Exchange
from rewards.stores.generator_key import generator_key
from rewards.stores.likelihood_store import DiskLikelihoodStore
from rewards.types import LikelihoodScorer
from train.cache import digest, source_fingerprint
from train.frozen import replicas
from train.schema import ScorerConfig, ShardingConfig


def make_scorer(model: PreTrainedModel, config: ScorerConfig) -> LikelihoodScorer:
    """The scorer of this process, or, where there are several and they are to score together, one
    for all of them.
    """
    max_tokens = tokens_per_batch(model, config)
    prefixes = PrefixStore(int(config.prefix_store_gb * 2**30)) if config.prefix_store_gb else None
    scorer = SharedPrefixScorer(model, max_tokens, config.positions_per_chunk, prefixes)
    return scorer if config.kind == "local" else over_processes(scorer, model, config.sharding)


def tokens_per_batch(model: PreTrainedModel, config: ScorerConfig) -> int | None:
    """As configured; None where each process may find out for itself what its memory holds.

    With several processes, all have to ask for it together.
    """
    found = config.max_tokens_per_batch
    if PartialState().num_processes == 1 or config.sharding.method != "tensor_parallel":
        return found
    # Ranks that compute together must cut their batches alike, whatever memory each has free.
    found = found or find_max_tokens(model, config.positions_per_chunk)
    return min(int(n) for n in Exchange().broadcast_all(torch.tensor([found])))


def over_processes(
    scorer: LikelihoodScorer, model: PreTrainedModel, sharding: ShardingConfig
) -> LikelihoodScorer:
    """The scorers of that model in all processes as one, however the model lies over them."""
    num_processes = PartialState().num_processes
    if num_processes == 1:
        return scorer
    exchange, shape = Exchange(), ModelShape.of(model)
    if sharding.method == "none":
        return DistributedScorer(scorer, shape, exchange)
    if sharding.method == "fsdp":
        in_step = EqualForwards.of_body(exchange, model)
        return DistributedScorer(scorer, shape, exchange, in_step=in_step)
    _, ranks_per_replica = replicas(sharding, num_processes)
    return DistributedScorer(scorer, shape, exchange, ranks_per_replica)


def baseline_store(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> DiskLikelihoodStore:
    """Where the likelihoods without a plan are kept, for all runs with this generator."""
    return DiskLikelihoodStore(folder, key_of(model, tokenizer))


def key_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """All that a likelihood depends on besides the token ids."""
    return generator_key(
        model,
        tokenizer=digest(tokenizer.get_vocab()),
        template=digest(tokenizer.chat_template),
        code=source_fingerprint(rewards),
    )
