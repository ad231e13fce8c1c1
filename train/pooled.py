"""The frozen generator of a run where it lives in a pool: no process of the training holds it."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from rewards.likelihood.flops import ModelShape
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.pool.cluster import join_cluster
from rewards.pool.messages import ORACLE
from rewards.pool.pool import WorkerPool
from rewards.pool.ray_workers import start_workers
from rewards.pool.scorer import PoolScorer
from rewards.pool.serving import Recipe
from rewards.ranks.distributed import DistributedScorer
from rewards.ranks.exchange import Exchange
from train import ranks
from train.models import resolve_path
from train.pool_worker import TARGET, recipe_settings
from train.schema import ModelConfig, Quantization, ScorerConfig


@dataclass(frozen=True)
class PooledGenerator:
    """What a run needs of its generator beside likelihoods: tokenizer, config, and what workers
    tell of it."""

    pool: WorkerPool
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    about: Mapping[str, Any]

    @classmethod
    def start(
        cls, model: ModelConfig, quantization: Quantization | None, scorer: ScorerConfig
    ) -> PooledGenerator:
        """Joins the cluster, asks for workers, and waits for the first that has the generator.

        With several processes all of them ask together, and share the workers.

        Raises:
            ValueError, ConnectionError: there is no cluster, no token, no room, or no generator.
        """
        settings, path = scorer.pool, resolve_path(str(model.path))
        if settings.address is None and ranks.num_processes() > 1:
            raise ValueError(
                "scorer.pool.address: several processes share one pool; start a cluster with "
                "`ray start --head` and give its host:port"
            )
        name = ranks.from_main(lambda: f"scorer-{secrets.token_hex(6)}")
        ray = join_cluster(
            settings.address,
            settings.workers * settings.cpus_per_worker,
            settings.workers * settings.gpus_per_worker,
        )
        if Path(path).is_dir():
            # A worker has a working directory of its own; the disk has to be a shared one.
            model = replace(model, path=str(Path(path).resolve()))
        workers, agreement = start_workers(
            ray,
            Recipe(TARGET, recipe_settings(model, quantization, scorer)),
            name,
            settings.workers,
            settings.cpus_per_worker,
            settings.gpus_per_worker,
            first=ranks.rank() % settings.workers,
        )
        pool = WorkerPool(
            workers, settings.groups_per_worker, settings.attempts_per_group, settings.patience_s
        )
        about = agreement.about(settings.patience_s)
        options = {"revision": model.revision, "trust_remote_code": False}
        return cls(
            pool,
            AutoConfig.from_pretrained(path, **options),
            AutoTokenizer.from_pretrained(path, **options),
            about,
        )

    @property
    def scorer(self) -> PoolScorer:
        return PoolScorer(self.pool)

    @property
    def oracle(self) -> PoolScorer:
        """What the scorer's noise is measured against."""
        return PoolScorer(self.pool, ORACLE)

    @property
    def oracle_dtype(self) -> torch.dtype:
        return getattr(torch, self.about["oracle_dtype"])

    def shared(self, reward: LikelihoodImprovement) -> LikelihoodImprovement:
        """The same reward for what every process asks alike, as in evaluation: scored once.

        With several processes all of them have to ask together.
        """
        if PartialState().num_processes == 1:
            return reward
        alike = copy.copy(reward)
        shape = ModelShape(**self.about["shape"])
        alike.scorer = DistributedScorer(reward.scorer, shape, Exchange())
        return alike
