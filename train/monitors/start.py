"""Makes the monitors of a run from its settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from envs.sampling import Sampling
from envs.types import Env, Episode
from rewards.likelihood.model_limits import context_window
from rewards.likelihood_improvement import LikelihoodImprovement, StatusRules
from train import ranks
from train.logs import MetricLog
from train.models import load_model
from train.monitors.callback import MonitorCallback, read_probes
from train.monitors.probe import Probe
from train.schema import ModelConfig, RunConfig, ShardingConfig
from train.scoring import baseline_store, make_scorer
from train.stages import Stages


def start_monitor(
    config: RunConfig,
    stages: Stages,
    episodes: Sequence[Episode],
    env: Env,
    reward: LikelihoodImprovement,
    log: MetricLog,
    metrics_path: Path,
    say: Callable[[str], None],
) -> MonitorCallback | None:
    """The callback that watches a run on the first few of `episodes`; None where none is wanted.

    `metrics_path` is where the run's own earlier probes are found, if it goes on.
    """
    settings, trainer = config.monitors, config.trainer
    if not settings.every_steps:
        return None
    second = settings.second_generator
    probe = Probe(
        spread(episodes, settings.num_episodes),
        settings.attempts,
        env,
        reward,
        None if second is None else _judge_of(second, config, stages),
        Sampling(trainer.max_completion_length, trainer.temperature),
        settings.batch_size,
        config.seed,
    )
    return MonitorCallback(
        probe,
        settings.limits,
        settings.every_steps,
        settings.patience,
        log,
        say,
        _earlier(metrics_path),
    )


def _earlier(metrics_path: Path) -> list[dict[str, float]]:
    """The run's own probes before it was resumed, as the process that keeps the log has them."""
    return json.loads(ranks.from_main(lambda: json.dumps(read_probes(metrics_path))))


def spread(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """`count` of the episodes, as far apart as they come, to have many books among them."""
    count = min(count, len(episodes))
    return [episodes[i * len(episodes) // count] for i in range(count)]


def _judge_of(model: ModelConfig, config: RunConfig, stages: Stages) -> LikelihoodImprovement:
    """Improvements under a generator that the policy is not trained on; none is paid for."""
    generator, tokenizer = load_model(model, "monitors.second_generator")
    generator.to(PartialState().device)  # pyright: ignore[reportArgumentType]
    return LikelihoodImprovement(
        # It is whole in every process, however the generator is spread.
        make_scorer(generator, replace(config.scorer, sharding=ShardingConfig())),
        stages.encoder(tokenizer, context_window(generator.config)),
        (),
        StatusRules(),
        baseline_store(generator, tokenizer, Path(config.cache_dir) / "likelihoods"),
    )
