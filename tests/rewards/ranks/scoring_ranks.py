"""Several real processes that score together: `python scoring_ranks.py <folder> <ranks>…`.

For each number of ranks, every rank plays its part in all scenarios and writes what it saw to
`<folder>/<ranks>/<rank>.json`, for test_distributed.py and test_equal_forwards.py to read.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.flops import ModelShape
from rewards.likelihood.fusion import ProductOfExperts
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.rounding import largest_difference
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.ranks.alike import AlikeScorer
from rewards.ranks.distributed import DistributedScorer
from rewards.ranks.equal_forwards import EqualForwards, shard_layers
from rewards.ranks.exchange import Exchange
from rewards.stores.generator_key import weights_digest
from rewards.types import Likelihood, LikelihoodScorer, Mixture, ScoreRequest

PLAIN = ("straddling", "baselines", "uneven", "one_group", "repeated", "nobody")
VOCABULARY = 100
# So many that no group needs to be split to balance them over 4 ranks.
NUM_STRADDLING = 16
TIMEOUT = timedelta(seconds=150)


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL))


# Families that merged attention does not know, which shows in the midst of a forward only: by what
# they hand to it, and by the kernel, which wants heads of one size.
REFUSING: dict[str, dict[str, Any]] = {
    "gemma2": {
        "head_dim": 8,
        "layer_types": ["full_attention"] * 2,
        "attn_logit_softcapping": 2.0,
    },
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 4,
    },
}


def tiny_model(family: str, **fields: Any) -> PreTrainedModel:
    config = AutoConfig.for_model(family, **{**SMALL, **fields})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def long_group() -> list[ScoreRequest]:
    """A group whose prefix is long enough to be shared."""
    return [
        ScoreRequest("book/long", (*range(90), *range(90)), (plan,) * plan, tuple(range(12)))
        for plan in range(1, 7)
    ]


def group(episode: int, num_plans: int = 4) -> list[ScoreRequest]:
    """The requests of one episode; the first has no plan."""
    rng = random.Random(episode)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCABULARY) for _ in range(count))

    prefix, gold = ids(rng.randrange(20, 60)), ids(rng.randrange(5, 25))
    plans = [(), *(ids(rng.randrange(1, 20)) for _ in range(num_plans))]
    return [ScoreRequest(f"bóok/{episode}", prefix, plan, gold) for plan in plans]


def requests_of(scenario: str, rank: int, num_ranks: int) -> list[ScoreRequest]:
    """What a rank asks for in a scenario of plain scoring."""
    if scenario == "straddling":
        # Every episode's plans are dealt over all ranks, and every rank wants its baseline.
        groups = [group(episode) for episode in range(NUM_STRADDLING)]
        return [r for g in groups for i, r in enumerate(g) if i == 0 or i % num_ranks == rank]
    if scenario == "baselines":
        # The same, where the baselines are scored by themselves.
        asked = requests_of("straddling", rank, num_ranks)
        return [replace(r, by_itself=not r.guidance_ids) for r in asked]
    if scenario == "uneven":
        return [r for episode in range(3 * rank) for r in group(10 * rank + episode)]
    if scenario == "one_group":
        return group(7, num_plans=12) if rank == 0 else []
    if scenario == "repeated":
        # The same ids by another name as well: two copies of a book on one shelf.
        return [*group(3), *group(3), *(replace(r, episode_id="copy/3") for r in group(3))]
    assert scenario == "nobody"
    return []


class Watched:
    """Passes on to a scorer, and keeps what reached it."""

    def __init__(self, scorer: LikelihoodScorer) -> None:
        self.scorer = scorer
        self.asked: list[ScoreRequest] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        self.asked.extend(requests)
        return self.scorer.score(requests)


def plain(scenario: str, exchange: Exchange, ranks_per_replica: int = 1) -> dict[str, Any]:
    model = tiny_llama()
    watched = Watched(DenseScorer(model))
    scorer = DistributedScorer(watched, ModelShape.of(model), exchange, ranks_per_replica)
    asked = requests_of(scenario, exchange.rank, exchange.num_ranks)
    sent = exchange.num_bytes_sent
    found = scorer.score(asked)
    return {
        "token_nll": [f.token_nll for f in found],
        "num_scored": len(watched.asked),
        "num_by_itself": sum(r.by_itself for r in watched.asked),
        "prefixes": sorted({str(r.prefix_ids) for r in watched.asked}),
        "bytes_sent": exchange.num_bytes_sent - sent,
    }


def mixed(episode: int) -> list[ScoreRequest]:
    """The requests of one episode, each written by two generators together; one comes twice."""
    asked = [replace(request, mixture=TOGETHER) for request in group(episode)]
    return [*asked, asked[1]]


def mixture_scorer() -> MixtureScorer:
    models = {name: tiny_model("llama") for name in ("a", "b")}
    torch.manual_seed(1)
    for weight in models["b"].parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return MixtureScorer(DenseScorer(models["a"]), models, max_tokens_per_batch=500)


def asked_alike(exchange: Exchange) -> dict[str, Any]:
    """All ranks ask for the same mixtures; then each for its own; then one of them fails."""
    watched = Watched(mixture_scorer())
    scorer = AlikeScorer(watched, exchange)
    seen: dict[str, Any] = {}
    for name, episode in {"same": 3, "own": exchange.rank}.items():
        watched.asked.clear()
        found = scorer.score(mixed(episode))
        seen[name] = [f.token_nll for f in found]
        seen[f"num_{name}"] = len(watched.asked)
    # Longer than the models' positions on the rank that gets the longest one.
    long = replace(mixed(3)[0], guidance_ids=(1,) * 300)
    try:
        scorer.score([*mixed(3), long])
    except ValueError as error:
        return {**seen, "error": str(error), "scored_after": len(scorer.score(mixed(3)))}
    raise AssertionError("a row beyond the last position was scored")


TOGETHER = Mixture(("a", "b"), ProductOfExperts((0.5, 0.5)))
BAD_REQUESTS = {
    # Found by the rank that is to score it.
    "empty": ScoreRequest("book/empty", (1, 2), (), ()),
    # Found by the rank that asks, which cannot even hand it on.
    "huge_id": ScoreRequest("book/huge", (1, 2**40), (), (3,)),
    "mixture": ScoreRequest("book/mixed", (1,), (), (3,), TOGETHER),
    # A name that is no text, as JSON can hold one, and no chapter.
    "surrogate": ScoreRequest("book/\ud800", (1, 2), (), ()),
}


def one_bad_request(exchange: Exchange, name: str) -> dict[str, Any]:
    """The last rank asks for what cannot be scored; afterwards all ask for what can be."""
    model = tiny_llama()
    scorer = DistributedScorer(DenseScorer(model), ModelShape.of(model), exchange)
    asked = group(exchange.rank)
    if exchange.rank == exchange.num_ranks - 1:
        asked = [BAD_REQUESTS[name]]
    try:
        scorer.score(asked)
    except Exception as error:
        after = scorer.score(group(exchange.rank))
        return {"kind": type(error).__name__, "text": str(error), "scored_after": len(after)}
    raise AssertionError(f"{name} was scored")


def sharded(exchange: Exchange, with_head: bool) -> dict[str, Any]:
    """Scores under weights that are spread over the ranks, some of which have nothing to do."""
    model = tiny_llama().eval()
    # Small batches and chunks, so that there are many calls to keep equal.
    scorer = DenseScorer(model, max_tokens_per_batch=150, positions_per_chunk=16)
    shape = ModelShape.of(model)
    mesh = init_device_mesh("cpu", (exchange.num_ranks,))
    shard_layers(model, mesh)
    in_step = EqualForwards.of_body(exchange, model)
    if with_head:
        head = model.get_output_embeddings()
        fully_shard(head, mesh=mesh, reshard_after_forward=True)
        in_step.watch(head, lambda: head(torch.zeros(1, model.config.hidden_size)))
    distributed = DistributedScorer(scorer, shape, exchange, in_step=in_step)
    asked = [r for episode in range(2 * exchange.rank) for r in group(episode)]
    found = distributed.score(asked)
    weight = model.model.layers[0].mlp.up_proj.weight
    calls = {"num_calls": in_step.num_calls, "num_idle_calls": in_step.num_idle_calls}
    error = ""
    try:
        distributed.score([ScoreRequest("book/empty", (1,), (), ())] * exchange.rank)
    except ValueError as caught:
        error = str(caught)
    return {
        **calls,
        "off_by": largest_difference(found, DenseScorer(tiny_llama()).score(asked)),
        "is_key_of_whole": weights_digest(model) == weights_digest(tiny_llama()),
        "share_of_weights": weight.to_local().numel() / weight.numel(),
        "error": error,
    }


def refused_paths(exchange: Exchange, family: str) -> dict[str, Any]:
    """Scores under sharded weights of a family that refuses merged attention inside a layer.

    Only the first rank asks for anything, so the others are in idle forwards meanwhile.
    """
    model, whole = (tiny_model(family, **REFUSING[family]) for _ in range(2))
    scorer, shape = SharedPrefixScorer(model), ModelShape.of(model)
    shard_layers(model, init_device_mesh("cpu", (exchange.num_ranks,)))
    in_step = EqualForwards.of_body(exchange, model)
    distributed = DistributedScorer(scorer, shape, exchange, in_step=in_step)
    asked = long_group() if exchange.rank == 0 else []
    found = distributed.score(asked)
    return {
        "paths": [path and path.name for path in scorer.paths.values()],
        "off_by": largest_difference(found, DenseScorer(whole).score(asked)),
        "num_calls": in_step.num_calls + in_step.num_idle_calls,
    }


def broken_forward(exchange: Exchange) -> dict[str, Any]:
    """The very first forward through sharded weights fails inside a layer, on one rank alone."""
    model = tiny_llama().eval()
    scorer, shape = DenseScorer(model), ModelShape.of(model)
    shard_layers(model, init_device_mesh("cpu", (exchange.num_ranks,)))
    in_step = EqualForwards.of_body(exchange, model)
    distributed = DistributedScorer(scorer, shape, exchange, in_step=in_step)

    def fail(*_: Any) -> None:
        raise RuntimeError("the first layer failed")

    asked = long_group() if exchange.rank == 0 else []
    handle = model.model.layers[0].mlp.register_forward_hook(fail) if asked else None
    try:
        distributed.score(asked)
    except RuntimeError as error:
        if handle is not None:
            handle.remove()
        off_by = largest_difference(
            distributed.score(asked), DenseScorer(tiny_llama()).score(asked)
        )
        return {"text": str(error), "off_by": off_by}
    raise AssertionError("a layer that fails gave a score")


def tensor_parallel(exchange: Exchange, folder: Path) -> dict[str, Any]:
    """One replica whose every weight is spread over the ranks; only the first asks for anything."""
    if exchange.rank == 0:
        tiny_llama().save_pretrained(folder / "model")
    dist.barrier()
    model = LlamaForCausalLM.from_pretrained(
        folder / "model", distributed_config=DistributedConfig(tp_plan="auto")
    )
    shape, whole = ModelShape.of(model), tiny_llama()
    scorer = DistributedScorer(DenseScorer(model), shape, exchange, exchange.num_ranks)
    asked = group(1) if exchange.rank == 0 else []
    weight = model.model.layers[0].mlp.up_proj.weight
    return {
        "off_by": largest_difference(scorer.score(asked), DenseScorer(whole).score(asked)),
        "share_of_weights": weight.to_local().numel() / weight.numel(),
        "is_key_of_whole": weights_digest(model) == weights_digest(whole),
    }


def killed(exchange: Exchange) -> dict[str, Any]:
    """The last rank is killed while the others wait for its answer."""

    class Dying:
        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            if exchange.rank == exchange.num_ranks - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return [Likelihood(1.0 * len(r.gold_ids), (1.0,) * len(r.gold_ids)) for r in requests]

    scorer = DistributedScorer(Dying(), ModelShape.of(tiny_llama()), exchange)
    started = time.perf_counter()
    try:
        scorer.score(group(exchange.rank))
    except Exception as error:
        seconds = time.perf_counter() - started
        return {"kind": type(error).__name__, "text": str(error), "seconds": seconds}
    raise AssertionError("a dead rank was not missed")


def play(rank: int, num_ranks: int, folder: Path) -> None:
    """All scenarios, as one rank; the last of them breaks the process group."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    store = dist.FileStore(str(folder / "rendezvous"), num_ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks, timeout=TIMEOUT)
    exchange = Exchange()
    seen: dict[str, Any] = {name: plain(name, exchange) for name in PLAIN}
    seen["replicas_of_two"] = plain("straddling", exchange, ranks_per_replica=2)
    seen |= {f"bad_request/{name}": one_bad_request(exchange, name) for name in BAD_REQUESTS}
    seen["alike"] = asked_alike(exchange)
    seen["sharded_layers"] = sharded(exchange, with_head=False)
    seen["sharded_layers_and_head"] = sharded(exchange, with_head=True)
    # What happens between the ranks is the same for any number of them.
    if num_ranks == 2:
        seen["broken_forward"] = broken_forward(exchange)
        for family in REFUSING:
            seen[f"refused_paths/{family}"] = refused_paths(exchange, family)
    # As torchrun would set them; transformers reads them.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    # Two heads of keys and values cannot be spread over more ranks.
    if num_ranks == 2:
        seen["tensor_parallel"] = tensor_parallel(exchange, folder)
    result = folder / f"{rank}.json"
    result.write_text(json.dumps(seen))
    result.write_text(json.dumps({**seen, "killed": killed(exchange)}))


def main(folder: Path, counts_of_ranks: Sequence[int]) -> None:
    for num_ranks in counts_of_ranks:
        here = folder / str(num_ranks)
        here.mkdir()
        # Forked from one process that has imported everything, and started no thread.
        context = multiprocessing.get_context("fork")
        ranks = [context.Process(target=play, args=(r, num_ranks, here)) for r in range(num_ranks)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]])
