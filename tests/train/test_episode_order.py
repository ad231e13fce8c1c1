"""Every episode once per pass, in an order that a checkpoint can go on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout
from rewards.types import Score
from train.episode_order import EpisodeOrder


class LastFirst:
    """Picks from the end of what is left; `enough` is how many passes it fills."""

    def __init__(self) -> None:
        self.seen: list[dict[str, list[float]]] = []

    def pick(self, left: Sequence[Episode], num_episodes: int, pass_number: int) -> list[Episode]:
        return list(left)[::-1][:num_episodes]

    def observe(self, rewards: Mapping[str, Sequence[float]]) -> None:
        self.seen.append({id_: list(found) for id_, found in rewards.items()})

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])


class Nothing(LastFirst):
    """Picks one episode where two are asked for."""

    def pick(self, left: Sequence[Episode], num_episodes: int, pass_number: int) -> list[Episode]:
        return list(left)[:1]


@pytest.fixture
def episodes(make_episode: Callable[..., Episode]) -> list[Episode]:
    return [make_episode(f"book/{number}") for number in range(5)]


def played(order: EpisodeOrder, positions: range | None = None) -> list[int]:
    found = [order[position] for position in positions or range(len(order))]
    return [int(e.episode_id.removeprefix("book/")) for e in found]


def permutations(seed: int, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(5, generator=generator).tolist() for _ in range(count)]


def test_a_pass_is_a_permutation_of_all_episodes_as_far_as_whole_rollouts_go(
    episodes: list[Episode],
) -> None:
    order = EpisodeOrder(episodes, episodes_per_rollout=2, num_rollouts=5, seed=3)
    first, second, third = permutations(3, 3)
    assert len(order) == 10
    assert played(order) == first[:4] + second[:4] + third[:2]
    assert order.passes_per_rollout == 0.4


def test_a_position_can_be_read_again(episodes: list[Episode]) -> None:
    order = EpisodeOrder(episodes, 2, 4, seed=3)
    once = played(order, range(4))
    assert played(order, range(2, 4)) == once[2:]


@pytest.mark.parametrize("curriculum", [lambda: None, LastFirst, Nothing])
@pytest.mark.parametrize("done", range(1, 12))
def test_an_order_goes_on_where_it_was_saved(
    episodes: list[Episode], curriculum: Callable[[], Any], done: int
) -> None:
    whole = played(EpisodeOrder(episodes, 2, 12, 1, curriculum()))
    order = EpisodeOrder(episodes, 2, 12, 1, curriculum())
    # A data loader has read the next rollout already when a checkpoint is saved.
    played(order, range(2 * done + 1 if done < 12 else 2 * done))
    state = json.loads(json.dumps(order.state()))
    resumed = EpisodeOrder(episodes, 2, 12, 1, curriculum())
    resumed.restore(state)
    assert played(resumed, range(2 * done, 24)) == whole[2 * done :]


def test_a_curriculum_picks_from_what_is_left_of_the_pass(episodes: list[Episode]) -> None:
    order = EpisodeOrder(episodes, 2, 3, 3, LastFirst())
    first, second = permutations(3, 2)
    assert played(order) == [*first[:-3:-1], *first[2::-1][:2], *second[:-3:-1]]


def test_a_new_pass_is_filled_up_where_a_curriculum_picks_too_few(episodes: list[Episode]) -> None:
    order = EpisodeOrder(episodes, 2, 3, 3, Nothing())
    assert played(order) == [place for drawn in permutations(3, 3) for place in drawn[:2]]


def test_a_curriculum_is_told_the_rewards_by_episode(episodes: list[Episode]) -> None:
    curriculum = LastFirst()
    order = EpisodeOrder(episodes, 2, 3, 3, curriculum)
    rollouts = [
        Rollout(episodes[n], (), Reply(""), PlanStatus.COMPLETE, Guidance("")) for n in (0, 0, 1)
    ]
    rewards = (1.0, 3.0, -2.0)
    scores = [
        Score(r.episode.episode_id, reward, None, None, None)
        for r, reward in zip(rollouts, rewards, strict=True)
    ]
    order.observe(rollouts, scores)
    assert curriculum.seen == [{"book/0": [1.0, 3.0], "book/1": [-2.0]}]


def test_a_checkpoint_of_other_episodes_is_refused(episodes: list[Episode]) -> None:
    state = EpisodeOrder(episodes, 2, 3, 3).state()
    with pytest.raises(ValueError, match="data: the training episodes are not those of the check"):
        EpisodeOrder(episodes[:-1], 2, 3, 3).restore(state)


def test_a_rollout_needs_enough_episodes(episodes: list[Episode]) -> None:
    with pytest.raises(
        ValueError, match=r"trainer: 6 episodes are played at once, and there are only 5"
    ):
        EpisodeOrder(episodes, 6, 1, 0)
