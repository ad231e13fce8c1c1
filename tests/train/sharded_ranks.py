"""Four real processes that load one generator spread over them: `python sharded_ranks.py <folder>`.

`<folder>/model` holds the generator. Every rank writes what it saw to `<folder>/<rank>.json`, for
test_frozen.py to read.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.flops import ModelShape
from rewards.likelihood.rounding import largest_difference
from rewards.ranks.distributed import DistributedScorer
from rewards.ranks.exchange import Exchange
from rewards.stores.generator_key import weights_digest
from rewards.types import Likelihood, ScoreRequest
from train.frozen import load_frozen
from train.models import load_model
from train.schema import ModelConfig, ScorerConfig, ShardingConfig
from train.scoring import make_scorer
from train.scoring_checks import if_all_can, scoring_noise

NUM_RANKS = 4
SHARDINGS = (
    ShardingConfig("tensor_parallel", ranks_per_replica=2),
    ShardingConfig("fsdp", ranks_per_replica=2),
    ShardingConfig("fsdp"),
)


def episode(number: int) -> list[ScoreRequest]:
    rng = random.Random(number)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(250) for _ in range(count))

    # Long enough for the prefix to be shared.
    prefix, gold = ids(150 + number), ids(20 + number)
    return [ScoreRequest(f"book/{number}", prefix, ids(5 * plan), gold) for plan in range(4)]


def scored(folder: Path, sharding: ShardingConfig) -> dict[str, Any]:
    """Likelihoods under the spread generator, of different episodes on each rank."""
    config = ModelConfig(path=str(folder / "model"))
    model, _ = load_frozen(config, "generator.model", sharding)
    rank = PartialState().process_index
    # The first rank has nothing to ask for.
    asked = [request for number in range(rank) for request in episode(10 * rank + number)]
    scorer = make_scorer(model, ScorerConfig(sharding=sharding))
    found = [scorer.score(asked) for _ in range(2)][-1]
    # All ranks ask for the same, and the oracle as well is of the spread model.
    spread = ScorerConfig(sharding=sharding)
    noise, _ = scoring_noise(scorer, model, spread, episode(1), [])
    whole, _ = load_model(config, "generator.model")
    expected = DenseScorer(whole).score(asked)
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert isinstance(weight, DTensor)
    return {
        "noise_points": noise.largest,
        "off_by": largest_difference(found, expected),
        "share_of_weights": weight.to_local().numel() / weight.numel(),
        "is_key_of_whole": weights_digest(model) == weights_digest(whole),
    }


def short_of_memory(scores: bool) -> bool:
    """Whether all ranks give up where the first one lacks memory, before or while they score."""
    shape = ModelShape(1000, 1, 0, 0, 8, 8, 50)

    class Short:
        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            if requests:
                raise MemoryError
            return []

    def work() -> list[Likelihood]:
        if scores:
            return DistributedScorer(Short(), shape, Exchange()).score(episode(1)[:1])
        if PartialState().process_index == 0:
            raise MemoryError
        return []

    return if_all_can(work) is None


def play(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(NUM_RANKS)}
    # accelerate wants an address, though the group is there already.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    store = dist.FileStore(str(folder / "rendezvous"), NUM_RANKS)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=NUM_RANKS, timeout=timedelta(seconds=100)
    )
    PartialState(cpu=True)
    seen = {
        "shardings": [scored(folder, sharding) for sharding in SHARDINGS],
        "gave_up": [short_of_memory(scores) for scores in (False, True)],
    }
    (folder / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    here = Path(sys.argv[1])
    # Forked from one process that has imported everything, and started no thread.
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=play, args=(rank, here)) for rank in range(NUM_RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
