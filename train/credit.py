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
from train.signal import has_signal


def turn_credits(
    env: Collaboration,
    reward: Reward,
    rollouts: Sequence[Rollout],
    scores: Sequence[Score],
    places: Sequence[Sequence[int | None]],
) -> list[list[Score]]:
    """For each play, by how much its score falls when each of `places` is left out; None leaves out
    nothing.

    Where that changes nothing, it is exactly 0, and not what rounding makes of it. Every play has
    equally many places. The reward is asked once for each, so that it sees whole groups, and
    equally often in all processes.
    """
    credits: list[list[Score]] = [[] for _ in rollouts]
    for asked in zip(*places, strict=True):
        without = [
            r if place is None else env.rollout_without(r, place)
            for r, place in zip(rollouts, asked, strict=True)
        ]
        others = rewarded(reward, without)
        for own, played, left, score, other in zip(
            credits, rollouts, without, scores, others, strict=True
        ):
            is_same = (played.outcome, played.status) == (left.outcome, left.status)
            own.append(_less(score, score if is_same else other))
    return credits


def _less(score: Score, other: Score) -> Score:
    """The difference of two scores; a reward that a rule gave has no rounding in it."""
    return Score(
        score.episode_id,
        score.reward - other.reward,
        (score.improvement or 0.0) - (other.improvement or 0.0),
        None,
        None,
        exact_reward=_exact_reward(score) - _exact_reward(other),
    )


def _exact_reward(score: Score) -> float:
    return score.reward if score.improvement is None else score.exact_reward


def centred_by_role(
    credits: Sequence[Score], groups: Sequence[tuple[str, str]], noise: float
) -> list[float]:
    """The credits less the mean of their group, which is an episode and a role.

    Otherwise a role that is worth much would look good whatever it says. Those of a group that
    differ by rounding alone become 0; `noise` is by how many points a score is off by it, and each
    credit comes of two scores.
    """
    by_group: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for credit, group in zip(credits, groups, strict=True):
        by_group[group].append(credit)
    means = {group: fmean(c.reward for c in found) for group, found in by_group.items()}
    differing = {group for group, found in by_group.items() if has_signal(found, 2 * noise)}
    return [
        credit.reward - means[group] if group in differing else 0.0
        for credit, group in zip(credits, groups, strict=True)
    ]
