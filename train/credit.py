"""What each turn of a play contributed: its reward less that of the same play without the turn.

The transcript stays as it was said; nothing is generated anew. What a turn led others to say stays,
so this is the turn's own part in the plan, not all of its influence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from envs.collaboration.collaboration import Collaboration
from envs.types import Rollout
from rewards.types import Reward, Score
from train.rewarding import rewarded


def turn_credits(
    env: Collaboration,
    reward: Reward,
    rollouts: Sequence[Rollout],
    scores: Sequence[Score],
    places: Sequence[Sequence[int]],
) -> list[list[float]]:
    """For each play, by how much its reward falls when each of `places` is left out.

    Where that changes nothing, it is exactly 0, and not what rounding makes of it. Every play has
    equally many places. The reward is asked once for each, so that it sees whole groups, and
    equally often in all processes.
    """
    credits: list[list[float]] = [[] for _ in rollouts]
    for asked in zip(*places, strict=True):
        without = [env.rollout_without(r, place) for r, place in zip(rollouts, asked, strict=True)]
        others = rewarded(reward, without)
        for own, played, left, score, other in zip(
            credits, rollouts, without, scores, others, strict=True
        ):
            is_same = (played.outcome, played.status) == (left.outcome, left.status)
            own.append(0.0 if is_same else score.reward - other.reward)
    return credits


def centred_by_role(credits: Sequence[float], groups: Sequence[tuple[str, str]]) -> list[float]:
    """The credits less the mean of their group, which is an episode and a role.

    Otherwise a role that is worth much would look good whatever it says.
    """
    by_group: dict[tuple[str, str], list[float]] = defaultdict(list)
    for credit, group in zip(credits, groups, strict=True):
        by_group[group].append(credit)
    means = {group: fmean(found) for group, found in by_group.items()}
    return [credit - means[group] for credit, group in zip(credits, groups, strict=True)]
