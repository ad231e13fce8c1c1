"""Whether the attempts at an episode differ in what they are worth, or only by rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rewards.types import Score


def has_signal(group: Sequence[Score], noise: float) -> bool:
    """Whether anything can be learned from comparing these attempts at one episode.

    Rewards that are equal teach nothing; nor do those that differ where all improvements lie within
    `noise`, the points by which the scorer is off by rounding, unless what needs no scorer differs.
    """
    if len({score.reward for score in group}) <= 1:
        return False
    if len({score.exact_reward for score in group}) > 1:
        return True
    improvements = [score.improvement for score in group if score.improvement is not None]
    if len(improvements) < len(group):
        return True
    return max(improvements) - min(improvements) > noise


def levelled(
    scores: Sequence[Score | None], group_size: int, noise: float
) -> tuple[list[float | None], float]:
    """The rewards, those of a group without signal replaced by their mean, which leaves no attempt
    of it an advantage; and the share of such groups.

    Divided by its own small deviation, noise would otherwise weigh as much as a real difference.
    None is an attempt that nothing is learned from, and is compared with no other.
    """
    rewards: list[float | None] = []
    dull = 0
    groups = list(grouped(scores, group_size))
    for group in groups:
        own = [score for score in group if score is not None]
        if has_signal(own, noise):
            rewards += [None if score is None else score.reward for score in group]
            continue
        dull += 1
        mean = sum(score.reward for score in own) / max(len(own), 1)
        rewards += [None if score is None else mean for score in group]
    return rewards, dull / len(groups)


def grouped(scores: Sequence[Score | None], group_size: int) -> Iterator[Sequence[Score | None]]:
    """The attempts at one episode after the other; each episode's stand together."""
    for start in range(0, len(scores), group_size):
        group = scores[start : start + group_size]
        ids = {score.episode_id for score in group if score is not None}
        assert len(group) == group_size and len(ids) <= 1
        yield group
