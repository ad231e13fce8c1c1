"""What workers of a test's pool score with; they import this module by its name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.pool.serving import Served
from rewards.types import Likelihood, ScoreRequest


class WaitingScorer:
    """Waits a while for each call, as for a device, and writes down who scored which episode."""

    def __init__(self, seconds: float, log: Path | None = None) -> None:
        self.seconds = seconds
        self.log = log

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        time.sleep(self.seconds)
        if self.log is not None:
            import ray

            node = ray.get_runtime_context().get_node_id()
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {node} {requests[0].episode_id}\n")
        return [cost_of(request) for request in requests]


def cost_of(request: ScoreRequest) -> Likelihood:
    """A thousandth of a nat for each id of a gold token, and a hundredth for each guiding token."""
    costs = tuple(0.001 * i + 0.01 * len(request.guidance_ids) for i in request.gold_ids)
    return Likelihood(sum(costs), costs)


def waiting(settings: Mapping[str, Any]) -> Served:
    log = settings.get("log")
    scorer = WaitingScorer(settings["seconds"], None if log is None else Path(log))
    return Served(scorer, scorer, {"key": settings.get("key", "waiting")})


def unable(settings: Mapping[str, Any]) -> Served:
    raise ValueError("generator.model.path: no usable model at 'nowhere'")


def tiny_llama(settings: Mapping[str, Any]) -> Served:
    from rewards.likelihood.dense import DenseScorer
    from rewards.prefix.shared_prefix import SharedPrefixScorer

    model = tiny_model()
    return Served(SharedPrefixScorer(model), DenseScorer(model), {"key": "tiny"})


def tiny_model() -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        vocab_size=400,
        initializer_range=0.2,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def groups_of(
    num_groups: int, first: int = 0, prefix: int = 300, plans: int = 3
) -> list[list[ScoreRequest]]:
    """Whole groups: a baseline that is scored by itself, and some plans of different lengths."""
    groups = []
    for number in range(first, first + num_groups):
        context = tuple(5 + (number * 7 + i) % 300 for i in range(prefix))
        gold = tuple(5 + (number + 3 * i) % 300 for i in range(12))
        groups.append(
            [
                ScoreRequest(f"book/{number}", context, (), gold, by_itself=True),
                *(
                    ScoreRequest(f"book/{number}", context, tuple(range(5, 9 + 3 * plan)), gold)
                    for plan in range(plans)
                ),
            ]
        )
    return groups
