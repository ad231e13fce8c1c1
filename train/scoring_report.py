"""What a run says of its scoring before it learns: what the generator sees, and how exactly."""

from __future__ import annotations

from collections.abc import Sequence

from envs.types import Episode
from train.run import Run, episodes_of
from train.scoring_checks import (
    check_episodes,
    int8_error,
    pooled_noise,
    probe_requests,
    scoring_noise,
)


def say_how_it_scores(run: Run, episodes: Sequence[Episode]) -> float:
    """Prints what of these episodes the generator sees, and how exact their rewards are.

    Gives the latter: by how many points improvements are off by rounding.

    Raises:
        ValueError: an episode cannot be scored; the message names it.
    """
    encoder, config = run.reward.encoder, run.config
    # Those of the table as well: else one that cannot be scored is found after all training.
    judged = episodes_of(run.source, config.evaluation.split)
    judged = judged[: config.evaluation.max_episodes]
    with run.progress.stage("look at the episodes"):
        lines = [check_episodes(encoder, [*episodes, *judged], run.pooled or run.writer[0])]
    if run.shares_weights_with_generator:
        lines.append("policy and generator share their weights; the policy is adapters on them")
    noise_points = 0.0
    requests = probe_requests(encoder, episodes[: config.scorer.noise_episodes])
    if requests:
        with run.progress.stage("measure the scoring noise"):
            noise, line = (
                scoring_noise(run.reward.scorer, run.writer[0], config.scorer, requests, run.terms)
                if run.pooled is None
                else pooled_noise(run.pooled, requests, run.terms)
            )
            noise_points = noise.largest
            lines.append(line)
            if config.generator.quantization is not None:
                lines.append(int8_error(run.reward.scorer, run.generator, requests))
    for line in lines:
        run.say(line)
    return noise_points
