"""A reward that goes wrong names the episode and stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout
from rewards.groups import check_whole
from rewards.types import Score
from train.rewarding import rewarded


class Divides:
    """A reward of one over the number of words in the plan."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [
            Score(r.episode.episode_id, 1 / len(r.outcome.plan.split()), None, None, None)
            for r in rollouts
        ]


class Fails:
    """A reward that raises what it is given, for the whole batch and never for one rollout."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        if len(rollouts) == 1:
            return []
        raise self.error


@pytest.fixture
def rollouts(make_episode: Callable[..., Episode]) -> list[Rollout]:
    return [
        Rollout(make_episode(id_), (), Reply(plan), PlanStatus.COMPLETE, Guidance(plan))
        for id_, plan in (("book/1", "go"), ("book/2", ""), ("book/3", "go on"))
    ]


def test_the_episode_that_a_reward_fails_on_is_named(rollouts: list[Rollout]) -> None:
    with pytest.raises(
        ValueError, match=r"^episode book/2: the reward failed with ZeroDivisionError"
    ):
        rewarded(Divides(), rollouts)


class DividesPairs(Divides):
    """The same of two attempts at each episode, and of nothing less."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        check_whole(rollouts, 2, ["pairs"])
        return super().__call__(rollouts)


def test_an_episode_is_looked_for_with_all_its_attempts(rollouts: list[Rollout]) -> None:
    pairs = [rollout for rollout in rollouts for _ in range(2)]
    with pytest.raises(ValueError, match=r"^episode book/2: .* ZeroDivisionError"):
        rewarded(DividesPairs(), pairs)


def test_a_reward_that_fails_on_the_batch_alone_names_all_of_it(rollouts: list[Rollout]) -> None:
    with pytest.raises(ValueError, match=r"^one of the episodes book/1, book/2, book/3: .*KeyErr"):
        rewarded(Fails(KeyError("score")), rollouts)


def test_an_error_that_names_its_episode_says_enough(rollouts: list[Rollout]) -> None:
    with pytest.raises(ValueError, match=r"^episode book/3: no score$"):
        rewarded(Fails(ValueError("episode book/3: no score")), rollouts)


def test_a_defect_keeps_its_kind(rollouts: list[Rollout]) -> None:
    with pytest.raises(AssertionError, match="ours"):
        rewarded(Fails(AssertionError("ours")), rollouts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_is_a_finite_number(rollouts: list[Rollout], value: float) -> None:
    class Infinite:
        def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
            return [Score(r.episode.episode_id, value, None, None, None) for r in rollouts]

    with pytest.raises(ValueError, match=r"^episode book/1: its reward is (nan|inf), and"):
        rewarded(Infinite(), rollouts)
