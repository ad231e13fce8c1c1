"""Asks a reward for scores, so that whatever it does wrong names the episode and stops the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from envs.types import Rollout
from rewards.types import Reward, Score
from train import ranks


def rewarded(reward: Reward, rollouts: Sequence[Rollout]) -> list[Score]:
    """One score per rollout, each a finite number.

    Raises:
        ValueError: the reward failed, or gave no finite number; the message names the episode.
    """
    try:
        scores = reward(rollouts)
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        if any(r.episode.episode_id in str(error) for r in rollouts):
            raise
        raise ValueError(
            f"{_culprit(reward, rollouts)}: the reward failed with {type(error).__name__}: "
            f"{error}; mend the reward, then resume"
        ) from error
    for score in scores:
        if not math.isfinite(score.reward):
            raise ValueError(
                f"episode {score.episode_id}: its reward is {score.reward}, and a reward is a "
                "finite number; mend the reward, then resume"
            )
    return scores


def _culprit(reward: Reward, rollouts: Sequence[Rollout]) -> str:
    """The episode that the reward fails on when it is asked for one episode at a time.

    With all its attempts, which some rewards compare.
    """
    ids = list(dict.fromkeys(r.episode.episode_id for r in rollouts))
    # Several processes score together: one of them alone would wait for the others.
    if ranks.num_processes() == 1:
        for id_ in ids:
            try:
                reward([r for r in rollouts if r.episode.episode_id == id_])
            except Exception:
                return f"episode {id_}"
    return f"one of the episodes {', '.join(ids)}"
