"""A frozen generator beside the run's own, that nothing was trained to please."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from rewards.likelihood.model_limits import context_window
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from train.models import load_model
from train.schema import ModelConfig, RunConfig, ShardingConfig
from train.scoring import baseline_store, make_scorer
from train.stages import Stages


def second_judge(
    model: ModelConfig, key: str, config: RunConfig, stages: Stages
) -> LikelihoodImprovement:
    """Improvements under that generator; none is paid for. `key` is where the model was set."""
    generator, tokenizer = load_model(model, key)
    generator.to(PartialState().device)  # pyright: ignore[reportArgumentType]
    return LikelihoodImprovement(
        # It is whole in every process, however the generator is spread.
        make_scorer(generator, replace(config.scorer, sharding=ShardingConfig())),
        stages.encoder(tokenizer, context_window(generator.config)),
        (),
        StatusRules(),
        baseline_store(generator, tokenizer, Path(config.cache_dir) / "likelihoods"),
    )
