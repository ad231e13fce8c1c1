"""Groups of attempts: whole ones, or a line that says what has to divide what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from envs.types import Rollout


def groups_of(rollouts: Sequence[Rollout]) -> list[list[int]]:
    """The places of each episode's rollouts; episodes in the order in which they first come."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, rollout in enumerate(rollouts):
        places[rollout.episode.episode_id].append(place)
    return list(places.values())


def check_whole(rollouts: Sequence[Rollout], group_size: int, terms: Sequence[str]) -> None:
    """Refuses a call that holds a part of a group: values computed on it would be wrong.

    Raises:
        ValueError: an episode has another number of attempts than `group_size`.
    """
    for episode_id, count in Counter(r.episode.episode_id for r in rollouts).items():
        if count != group_size:
            raise ValueError(
                f"episode {episode_id}: {_named(terms)} all {group_size} attempts at an episode, "
                f"and this process got {count}; the attempts of each process have to be a multiple "
                f"of {group_size}"
            )


def check_aligned(
    group_size: int, num_episodes: int, num_processes: int, terms: Sequence[str], key: str
) -> None:
    """The same at start-up, before any work is done: episodes are dealt out to processes in order.

    `key` is the setting that `num_episodes` comes from.

    Raises:
        ValueError: there are no groups, or they would straddle processes.
    """
    if group_size < 2:
        raise ValueError(
            f"trainer.num_generations: {_named(terms)} the attempts at an episode, and there is "
            f"{group_size} of each; set it to 2 or more, or take another reward"
        )
    if num_episodes % num_processes:
        raise ValueError(
            f"{key}: {_named(terms)} all attempts at an episode, so each process needs whole "
            f"groups of num_generations = {group_size}; {num_episodes} groups do not divide over "
            f"{num_processes} processes. Make it a multiple of {num_processes}"
        )


def _named(terms: Sequence[str]) -> str:
    names = ", ".join(f"reward.terms.{name}" for name in terms)
    return f"{names} {'compares' if len(terms) == 1 else 'compare'}"
