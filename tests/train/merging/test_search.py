"""Searches find what there is to find, count what they ask, and repeat by seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch

from train.merging.descent import batches, descent
from train.merging.search import Evaluations, Point, cma_es, swarm

BOUNDS = (-1.5, 1.5)
START = (0.5, 0.5)
SEARCHES: dict[str, Callable[[Evaluations, int], None]] = {
    "cma_es": lambda evaluations, seed: cma_es(evaluations, START, BOUNDS, seed),
    "swarm": lambda evaluations, seed: swarm(evaluations, [(1, 0), (0, 1)], BOUNDS, seed),
}


def bowl(point: Point) -> float:
    """Lowest, at 0, at (0.3, 0.8)."""
    return (point[0] - 0.3) ** 2 + (point[1] - 0.8) ** 2


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_asks_for_no_more_than_its_budget(name: str) -> None:
    asked: list[Point] = []

    def counted(point: Point) -> float:
        asked.append(point)
        return bowl(point)

    evaluations = Evaluations(counted, budget=23)
    SEARCHES[name](evaluations, 0)
    assert len(asked) == len(evaluations.known) == 23
    assert evaluations.left == 0
    assert all(-1.5 <= value <= 1.5 for point in asked for value in point)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_repeats_by_seed(name: str) -> None:
    found = [Evaluations(bowl, budget=40) for _ in range(3)]
    for evaluations, seed in zip(found, (5, 5, 6), strict=True):
        SEARCHES[name](evaluations, seed)
    assert list(found[0].known) == list(found[1].known)
    assert list(found[0].known) != list(found[2].known)


@pytest.mark.parametrize(("name", "within"), [("cma_es", 1e-4), ("swarm", 2e-2)])
def test_a_search_finds_the_bottom_of_a_bowl(name: str, within: float) -> None:
    evaluations = Evaluations(bowl, budget=300)
    SEARCHES[name](evaluations, 0)
    (best,) = evaluations.best(1)
    assert bowl(best) < within


@pytest.mark.parametrize("name", SEARCHES)
def test_a_bottom_outside_the_bounds_is_met_at_the_bound(name: str) -> None:
    evaluations = Evaluations(lambda point: (point[0] - 9) ** 2 + point[1] ** 2, budget=200)
    SEARCHES[name](evaluations, 0)
    assert evaluations.best(1)[0][0] == pytest.approx(1.5, abs=0.05)


def test_a_swarm_rests_when_nothing_gets_better() -> None:
    evaluations = Evaluations(lambda _: 1.0, budget=10_000)
    swarm(evaluations, [(1.0, 0.0), (0.0, 1.0)], BOUNDS, seed=0, num_particles=4)
    # The first round sets the best, ten more bring none. After five of those each particle goes
    # back to where it began; from there that which is both best and worst has nowhere to go.
    assert len(evaluations.known) == 11 * 3 + 6


def test_a_swarm_begins_on_its_way_from_one_particle_to_another() -> None:
    evaluations = Evaluations(lambda _: 1.0, budget=4)
    swarm(evaluations, [(1.0, 0.0), (0.0, 1.0)], BOUNDS, seed=0, num_particles=2)
    first, second, moved, _ = evaluations.known
    assert (first, second) == ((1.0, 0.0), (0.0, 1.0))
    # It is the best and the worst itself, so nothing but its first speed moves it.
    assert sum(moved) == pytest.approx(1.0) and 0 < moved[1] < 1


def test_particles_are_put_between_two_writers_each() -> None:
    evaluations = Evaluations(lambda _: 1.0, budget=10)
    swarm(evaluations, [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)], BOUNDS, seed=0)
    places = list(evaluations.known)
    assert all(sum(place) == pytest.approx(1.0) for place in places)
    assert [place.count(0.0) for place in places] == [2] * 3 + [1] * 7


def test_a_swarm_of_one_writer_has_nowhere_to_go() -> None:
    evaluations = Evaluations(lambda _: 1.0, budget=10)
    swarm(evaluations, [(1.0,)], BOUNDS, seed=0)
    assert list(evaluations.known) == [(1.0,)]


def test_a_point_costs_once_and_its_coefficients_cost_what_lorahub_says() -> None:
    evaluations = Evaluations(lambda _: 2.0, budget=2, l1=0.05)
    assert evaluations((1.0, -0.5)) == evaluations((1.0, -0.5)) == pytest.approx(2.0 + 0.05 * 0.75)
    assert evaluations.left == 1


def test_cma_es_searches_along_a_line() -> None:
    evaluations = Evaluations(lambda point: (point[0] - 0.3) ** 2, budget=120)
    cma_es(evaluations, (1.0,), BOUNDS, seed=0)
    assert evaluations.best(1)[0][0] == pytest.approx(0.3, abs=1e-2)


def test_descent_walks_to_the_bottom_and_stays_within_the_bounds() -> None:
    start = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    goal = torch.tensor([[0.4, 3.0]], dtype=torch.float64)
    walk = descent(lambda values: ((values - goal) ** 2).sum(), start, BOUNDS, 0.05)
    *_, last = itertools.islice(walk, 300)
    assert last == pytest.approx((0.4, 1.5), abs=1e-3)


def test_batches_go_through_all_items_in_an_order_of_the_seed() -> None:
    drawn = partial(batches, range(6), 2)
    first_pass = list(itertools.islice(drawn(seed=1), 3))
    assert sorted(itertools.chain(*first_pass)) == list(range(6))
    assert first_pass == list(itertools.islice(drawn(seed=1), 3))
    assert next(batches([1, 2], 8, seed=0)) in ([1, 2], [2, 1])
