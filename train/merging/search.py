"""Searching for the best point without gradients, under a budget of evaluations.

A point is a merge's coefficients in a row. What a search found is in the evaluations that it was
given: it stops when they are used up, or earlier where it has come to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from cmaes import CMA

Point = tuple[float, ...]
Loss = Callable[[Point], float]
Bounds = tuple[float, float]

# Model Swarms (Feng et al. 2024): how much of a step comes from where the particle was going, from
# its own best place, the best of all, and, backwards, the worst of all.
INERTIA, PERSONAL, GLOBAL, WORST = 0.4, 0.3, 0.3, 0.3
STEP_DECAY, LEAST_STEP = 0.95, 0.1
# Rounds without a better best: of all, after which the swarm rests, and of one particle, after
# which it starts again from its own best.
PATIENCE, RESTART_PATIENCE = 10, 5

# LoraHub (Huang et al. 2023): what a unit of mean absolute coefficient costs, in nats per token.
LORAHUB_L1 = 0.05


class Evaluations:
    """A loss that may be asked for so many points; what it has answered costs nothing again.

    `l1` is what a unit of mean absolute coefficient adds to it.
    """

    def __init__(self, loss: Loss, budget: int, l1: float = 0.0) -> None:
        self._loss = loss
        self._l1 = l1
        self.budget = budget
        self.known: dict[Point, float] = {}

    def __call__(self, point: Sequence[float]) -> float:
        """The loss at the point; there has to be something left of the budget."""
        place = tuple(map(float, point))
        if place not in self.known:
            assert self.left > 0, "a search looks at what is left before it asks"
            self.known[place] = self._loss(place) + self._l1 * float(np.mean(np.abs(place)))
        return self.known[place]

    @property
    def left(self) -> int:
        return self.budget - len(self.known)

    def best(self, count: int) -> list[Point]:
        """The best points so far, best first; of equals, the one that was asked for first."""
        return sorted(self.known, key=self.known.__getitem__)[:count]


def cma_es(
    evaluations: Evaluations, start: Point, bounds: Bounds, seed: int, spread: float = 0.3
) -> None:
    """Covariance matrix adaptation from `start` on, with draws of that standard deviation."""
    box = np.array([bounds] * len(start))
    optimizer = CMA(np.clip(np.array(start), *bounds), spread, bounds=box, seed=seed)
    evaluations(start)
    while not optimizer.should_stop():
        told: list[tuple[np.ndarray, float]] = []
        for _ in range(optimizer.population_size):
            if not evaluations.left:
                return
            point = optimizer.ask()
            told.append((point, evaluations(point.tolist())))
        optimizer.tell(told)


def swarm(
    evaluations: Evaluations,
    starts: Sequence[Point],
    bounds: Bounds,
    seed: int,
    num_particles: int = 10,
) -> None:
    """Model Swarms over coefficients: particles begin at `starts` and at draws between two of them,
    each on its way to another one.

    A particle that has found nothing better for five rounds goes back to its own best place and
    stands still there before it moves on.

    The published swarm moves whole weights. Its steps add up particles and nothing else, so for
    merges that are linear in their coefficients this is the same swarm, but for this: it keeps to
    the bounds; it has `num_particles` and not 20; it ends with the evaluations and not after 50
    rounds; a particle starts again by the age of its best, where the published code looks whether
    it is better than five rounds before; and steps become shorter by the round, where that code
    shortens them with every particle.
    """
    draw = np.random.default_rng(seed)
    places = _starting_places(starts, num_particles, draw)
    speeds, step, waited = _towards_another(places, draw), 1.0, 0
    best_places, best_losses = places.copy(), np.full(len(places), np.inf)
    worst, worst_loss, best_loss = places[0], -np.inf, np.inf
    idle = np.zeros(len(places), dtype=int)
    while waited < PATIENCE:
        waited += 1
        idle += 1
        for i, place in enumerate(places):
            if not evaluations.left:
                return
            loss = evaluations(place)
            if loss < best_losses[i]:
                best_places[i], best_losses[i], idle[i] = place, loss, 0
            if loss > worst_loss:
                worst, worst_loss = place.copy(), loss
            if loss < best_loss:
                best_loss, waited = loss, 0
        lost = idle >= RESTART_PATIENCE
        places[lost], speeds[lost], idle[lost] = best_places[lost], 0.0, 0
        leader = best_places[best_losses.argmin()]
        pulls = draw.random((len(places), 4)) * (INERTIA, PERSONAL, GLOBAL, WORST)
        own, towards, everyone, away = (pulls / pulls.sum(1, keepdims=True)).T[:, :, None]
        speeds = (
            own * speeds
            + towards * (best_places - places)
            + everyone * (leader - places)
            - away * (worst - places)
        )
        places = np.clip(places + step * speeds, *bounds)
        step = max(LEAST_STEP, step * STEP_DECAY)


def _starting_places(starts: Sequence[Point], count: int, draw: np.random.Generator) -> np.ndarray:
    """`starts`, and draws from the lines between two of them, so many in all."""
    corners, found = np.array(starts, dtype=float), list(map(np.array, starts))
    while len(found) < count:
        one, other = draw.choice(len(corners), 2, replace=len(corners) < 2)
        share = draw.random()
        found.append(share * corners[one] + (1 - share) * corners[other])
    return np.array(found, dtype=float)


def _towards_another(places: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """From each particle the way to another that is drawn for it."""
    count = len(places)
    ahead = draw.integers(1, count, count) if count > 1 else np.zeros(1, dtype=int)
    return places[(np.arange(count) + ahead) % count] - places
