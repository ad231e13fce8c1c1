"""Makes the monitors of a run from its settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from envs.sampling import Sampling
from envs.types import Env, Episode
from rewards.likelihood_improvement import LikelihoodImprovement
from train import ranks
from train.logs import MetricLog
from train.monitors.callback import MonitorCallback, read_probes
from train.monitors.probe import Probe
from train.schema import RunConfig
from train.second_generator import second_judge
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
        None
        if second is None
        else second_judge(second, "monitors.second_generator", config, stages),
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
