"""Every request is scored once, whole groups where they balance, near the ideal."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from rewards.likelihood.flops import GroupCost
from rewards.ranks.balance import Share, assign, balance, ideal_flops, rank_flops


def makespan_flops(groups: Sequence[GroupCost], plan: Sequence[Sequence[Share]]) -> int:
    """The load of the busiest rank; the prefix of a split group counts on each of its ranks."""
    return max(rank_flops(groups, {s.group: s.members for s in shares}) for shares in plan)


def test_the_costliest_job_goes_to_the_least_loaded_rank() -> None:
    # 4 | 3, then 2 to the 3, 2 to the 4, and 1 to the 5.
    assert assign([3, 1, 4, 2, 2], 2) == [[2, 4], [0, 3, 1]]
    assert assign([1], 3) == [[0], [], []]
    assert assign([], 2) == [[], []]


def groups_of(rng: random.Random, count: int, members: int = 8) -> list[GroupCost]:
    return [
        GroupCost(rng.randrange(500, 1500), tuple(rng.randrange(200, 900) for _ in range(members)))
        for _ in range(count)
    ]


def members_of(plan: Sequence[Sequence[Share]]) -> list[tuple[int, int]]:
    return sorted((s.group, m) for shares in plan for s in shares for m in s.members)


@pytest.mark.parametrize("count", [0, 1, 3, 8, 50])
@pytest.mark.parametrize("num_ranks", [1, 2, 8, 20])
def test_every_member_is_scored_exactly_once(count: int, num_ranks: int) -> None:
    groups = groups_of(random.Random(count), count)
    plan = balance(groups, num_ranks)
    assert len(plan) == num_ranks
    assert members_of(plan) == [(g, m) for g in range(count) for m in range(8)]


@pytest.mark.parametrize("num_ranks", [2, 4, 8])
def test_with_many_groups_none_is_split_and_the_makespan_is_near_the_ideal(num_ranks: int) -> None:
    groups = groups_of(random.Random(num_ranks), 8 * num_ranks)
    plan = balance(groups, num_ranks)
    assert sum(len(shares) for shares in plan) == len(groups)
    assert makespan_flops(groups, plan) <= 1.10 * ideal_flops(groups, num_ranks)


def test_a_group_larger_than_a_ranks_share_is_split_and_its_prefix_counted_twice() -> None:
    groups = [GroupCost(10, (50, 50, 50, 50))]
    plan = balance(groups, 2)
    assert [sum(len(s.members) for s in shares) for shares in plan] == [2, 2]
    assert makespan_flops(groups, plan) == 10 + 2 * 50
    assert ideal_flops(groups, 2) == 105


def test_a_split_that_would_only_repeat_the_prefix_is_not_made() -> None:
    groups = [GroupCost(1000, (1, 1))]
    (first, second) = balance(groups, 2)
    assert makespan_flops(groups, [first, second]) == 1001
    assert ideal_flops(groups, 2) == 501


def test_the_same_groups_give_the_same_plan() -> None:
    groups = groups_of(random.Random(1), 30)
    assert balance(groups, 7) == balance(list(groups), 7)
