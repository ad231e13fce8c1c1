"""The frozen generator in a worker of a scoring pool, made from plain settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.flops import ModelShape
from rewards.likelihood.oracle import fp32_copy
from rewards.pool.serving import Served
from rewards.types import Likelihood, ScoreRequest
from train.frozen import load_frozen
from train.schema import ModelConfig, ScorerConfig
from train.scoring import key_of, make_scorer

# What workers are told to make their scorer with (`rewards.pool.serving.Recipe`).
TARGET = "train.pool_worker:serve"


class Oracle:
    """The dense scorer, in fp32 where there is memory for it; it takes memory only while asked."""

    def __init__(self, model: PreTrainedModel, config: ScorerConfig) -> None:
        self.model = model
        self.config = config
        self.is_fp32 = model.dtype == torch.float32 or fp32_copy(model) is not None

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        has_copy = self.is_fp32 and self.model.dtype != torch.float32
        exact = fp32_copy(self.model) if has_copy else self.model
        if exact is None:
            raise RuntimeError("the memory that an fp32 copy of the generator had is taken")
        return DenseScorer(
            exact, self.config.max_tokens_per_batch, self.config.positions_per_chunk
        ).score(requests)


def recipe_settings(model: ModelConfig, quantization: str | None, config: ScorerConfig) -> Any:
    """What `serve` is called with, as JSON has it."""
    scorer = {
        name: getattr(config, name)
        for name in ("max_tokens_per_batch", "positions_per_chunk", "prefix_store_gb")
    }
    return {"model": asdict(model), "quantization": quantization, "scorer": scorer}


def serve(settings: Mapping[str, Any]) -> Served:
    """Loads the generator on this worker's device.

    Raises:
        ValueError: there is no such model on this host.
    """
    model, tokenizer = load_frozen(
        ModelConfig(**settings["model"]), "generator.model", quantization=settings["quantization"]
    )
    config = ScorerConfig(kind="local", **settings["scorer"])
    oracle = Oracle(model, config)
    about = {
        "key": key_of(model, tokenizer),
        "device": model.device.type,
        "oracle_dtype": "float32" if oracle.is_fp32 else str(model.dtype).removeprefix("torch."),
        "shape": asdict(ModelShape.of(model)),
    }
    return Served(make_scorer(model, config), oracle, about)
