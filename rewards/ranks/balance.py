"""Who scores what: groups of requests over ranks, so that all end at about the same time.

Pure functions of costs. Every rank computes the same plan from the same numbers.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rewards.likelihood.flops import GroupCost

# A busiest rank this close to the ideal is left alone: a split costs a prefix, to gain little.
GOOD_ENOUGH = 1.05
# Groups above this share of a rank's ideal load begin in pieces below it; tried in this order.
PIECE_SHARES = (math.inf, 1.0, 0.5, 0.25)

Members = dict[int, set[int]]
"""What a rank scores: by group, the members."""


@dataclass(frozen=True)
class Share:
    """Members of one group that a rank scores together."""

    group: int
    members: tuple[int, ...]


def assign(costs: Sequence[float], num_ranks: int) -> list[list[int]]:
    """Indices of the jobs of each rank: the costliest job goes to the least loaded rank, and so on.

    At most 4/3 of the best makespan there is (Graham 1969), near 1 where jobs are many.
    """
    loads = [(0.0, rank) for rank in range(num_ranks)]
    jobs: list[list[int]] = [[] for _ in range(num_ranks)]
    for job in sorted(range(len(costs)), key=lambda j: (-costs[j], j)):
        load, rank = heapq.heappop(loads)
        jobs[rank].append(job)
        heapq.heappush(loads, (load + costs[job], rank))
    return jobs


def balance(groups: Sequence[GroupCost], num_ranks: int) -> list[list[Share]]:
    """The shares of each rank: whole groups where that balances, else some of them in parts.

    A rank that has part of a group goes through the whole of its prefix. So splitting is tried from
    none to fine, and the first plan within `GOOD_ENOUGH` of the ideal is taken, else the best.
    """
    ideal = ideal_flops(groups, num_ranks)
    best: list[Members] = []
    best_load = math.inf
    for piece_share in PIECE_SHARES:
        plan = _assign_pieces(groups, num_ranks, piece_share * ideal)
        busiest = _even_out(groups, plan, GOOD_ENOUGH * ideal)
        if busiest < best_load:
            best, best_load = plan, busiest
        if best_load <= GOOD_ENOUGH * ideal:
            break
    return [
        [Share(index, tuple(sorted(members[index]))) for index in sorted(members)]
        for members in best
    ]


def ideal_flops(groups: Sequence[GroupCost], num_ranks: int) -> float:
    """The load of each rank if work were a liquid and every prefix went through the model once."""
    return sum(g.total for g in groups) / num_ranks


def rank_flops(groups: Sequence[GroupCost], members: Mapping[int, Collection[int]]) -> int:
    """The load of a rank that scores these members of each group."""
    return sum(
        groups[index].prefix + sum(groups[index].members[m] for m in chosen)
        for index, chosen in members.items()
    )


def _assign_pieces(groups: Sequence[GroupCost], num_ranks: int, limit: float) -> list[Members]:
    """Groups over ranks, those that cost more than `limit` in pieces that cost about as much."""
    pieces: list[tuple[int, list[int]]] = []
    for index, group in enumerate(groups):
        num_pieces = 1
        if group.total > limit:
            room = limit - group.prefix
            num_pieces = len(group.members)
            if room > 0:
                num_pieces = min(num_pieces, math.ceil(sum(group.members) / room))
        pieces += [(index, members) for members in assign(group.members, num_pieces)]
    costs = [rank_flops(groups, {index: members}) for index, members in pieces]
    plan: list[Members] = [{} for _ in range(num_ranks)]
    for members, jobs in zip(plan, assign(costs, num_ranks), strict=True):
        for index, piece in (pieces[job] for job in jobs):
            members.setdefault(index, set()).update(piece)
    return plan


def _even_out(groups: Sequence[GroupCost], plan: list[Members], limit: float) -> int:
    """Lets the busiest rank give members to the idlest, while it is above `limit` and that helps.

    Changes the plan, and gives the load of its busiest rank.
    """
    loads = [rank_flops(groups, members) for members in plan]
    while max(loads) > limit:
        busiest, idlest = loads.index(max(loads)), loads.index(min(loads))
        gap = loads[busiest] - loads[idlest]
        index, moved = _best_gift(groups, plan[busiest], plan[idlest], gap)
        if not moved:
            break
        plan[busiest][index] -= moved
        plan[idlest].setdefault(index, set()).update(moved)
        for rank in (busiest, idlest):
            loads[rank] = rank_flops(groups, plan[rank])
    return max(loads)


def _best_gift(
    groups: Sequence[GroupCost],
    giver: Mapping[int, set[int]],
    taker: Mapping[int, set[int]],
    gap: int,
) -> tuple[int, set[int]]:
    """The group, and members of it, that bring two ranks nearest without changing their order."""
    best: tuple[int, int, set[int]] = (0, -1, set())
    for index in sorted(giver):
        group = groups[index]
        room = (gap - (0 if index in taker else group.prefix)) // 2
        moved: set[int] = set()
        # Costliest first fills the room best; the last member stays, for the prefix is there.
        for member in sorted(giver[index], key=lambda m: -group.members[m]):
            if group.members[member] <= room and len(moved) < len(giver[index]) - 1:
                room -= group.members[member]
                moved.add(member)
        flops = sum(group.members[m] for m in moved)
        if flops > best[0]:
            best = (flops, index, moved)
    return best[1:]
