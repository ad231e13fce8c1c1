"""What an optimiser proposes is a function of what is known and of the seed."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch.sweeps.proposals import Told, propose
from launch.sweeps.settings import SweeperSettings
from launch.sweeps.space import Dimension, dimension

pytest.importorskip("optuna", reason="needs Optuna: pip install 'nextchapter[optuna]'")


def space(*texts: str) -> list[Dimension]:
    return [dimension(OverridesParser.create().parse_override(text)) for text in texts]


def play(dimensions: list[Dimension], settings: SweeperSettings, count: int) -> list[Told]:
    """Trials one after the other; a trial's result is how near its x is to 7."""
    told: list[Told] = []
    for number in range(count):
        texts = propose(dimensions, told, settings, number)
        if texts is None:
            break
        told.append(Told(texts, -abs(float(texts["x"]) - 7)))
    return told


def test_a_search_comes_near_the_best_that_chance_alone_would_miss() -> None:
    dimensions = space("x=interval(0,1000)")
    found = play(dimensions, SweeperSettings(n_startup_trials=5), 40)
    by_chance = play(dimensions, SweeperSettings(sampler="random"), 40)
    best = [max(one.value or -1e9 for one in each) for each in (found, by_chance)]
    # Of 40 by chance the best is 24 away on average.
    assert best[0] > -3 > best[1]


def test_a_search_by_a_gaussian_process_comes_near_in_few_trials() -> None:
    found = play(space("x=interval(0,1000)"), SweeperSettings(sampler="gp", n_startup_trials=4), 12)
    # By chance it would be 77 away on average.
    assert max(one.value or -1e9 for one in found) > -20


def test_the_same_seed_proposes_the_same_and_another_one_does_not() -> None:
    dimensions = space("x=interval(0,1000)", "name=choice(a,b)")
    first, second, other = (
        play(dimensions, SweeperSettings(seed=seed, n_startup_trials=3), 6) for seed in (5, 5, 6)
    )
    assert first == second
    assert not {one.texts["x"] for one in first} & {one.texts["x"] for one in other}


def test_nothing_is_proposed_twice_and_in_the_end_nothing_is_left() -> None:
    found = play(space("x=range(1,4)", "name=choice(a,b)"), SweeperSettings(), 20)
    assert len(found) == 6
    assert len({tuple(one.texts.items()) for one in found}) == 6


def test_what_failed_is_not_proposed_again_and_counts_for_nothing() -> None:
    dimensions = space("x=choice(1,2)")
    failed = [Told({"x": "1"}, failed=True)]
    assert propose(dimensions, failed, SweeperSettings(), 1) == {"x": "2"}
