"""Coefficients found by search and by gradient: gains, budgets, books apart, gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from envs.merging import Merging
from envs.sources.storyworld import StoryWorldSource
from envs.types import Episode
from train.ensembles import merging
from train.ensembles.shelf import Shelf
from train.merging.coefficients import Coefficients
from train.merging.objective import MergeLoss, batch_nll, mean_nll

MakeShelf = Callable[..., Shelf]
LEARNED = ("lorahub", "swarm", "cma_es", "gradient")


def small(coefficients: str, **settings: object) -> Merging:
    return Merging(
        writers=("north", "south"),
        coefficients=coefficients,  # pyright: ignore[reportArgumentType]
        budget=16,
        finalists=2,
        num_episodes=4,
        batch_size=3,
        **settings,  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.parametrize("how", LEARNED)
def test_what_is_found_is_better_than_where_it_started_and_within_the_budget(
    how: str, shelf: Shelf, world: StoryWorldSource
) -> None:
    train, validation = world.episodes("train")[:8], world.episodes("validation")[:4]
    fitted = merging.fit(small(how), shelf, train, validation, seed=0)
    assert fitted.found["nll"] < fitted.found["start_nll"]
    assert 3 <= fitted.found["evaluations"] <= 16
    # Twelve evaluations of a search, or steps, are used and not saved.
    assert fitted.found["evaluations"] >= 15


@pytest.mark.parametrize("how", LEARNED)
def test_the_same_seed_finds_the_same_coefficients(
    how: str,
    three_models: dict[str, PreTrainedModel],
    make_shelf: MakeShelf,
    world: StoryWorldSource,
) -> None:
    train, validation = world.episodes("train")[:8], world.episodes("validation")[:4]
    found = [
        merging.fit(small(how), make_shelf(three_models), train, validation, seed).coefficients
        for seed in (3, 3, 4)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare", "lora"])
def test_every_method_learns_by_gradient(
    method: str, shelf: Shelf, world: StoryWorldSource
) -> None:
    train, validation = world.episodes("train")[:8], world.episodes("validation")[:4]
    fitted = merging.fit(small("gradient", method=method), shelf, train, validation, seed=0)
    assert fitted.found["nll"] <= fitted.found["start_nll"]
    low, high = fitted.env.bounds
    assert all(low <= value <= high for value in fitted.coefficients.flat)


def test_validation_chooses_and_training_books_alone_are_searched_on(
    shelf: Shelf, world: StoryWorldSource
) -> None:
    """A shelf that tells which episodes it was asked about."""
    asked: list[str] = []
    request = shelf.request

    class Telling:
        def __getattr__(self, name: str) -> object:
            return getattr(shelf, name)

        def request(self, name: str, episode: Episode, plan: str = "") -> object:
            asked.append(episode.episode_id)
            return request(name, episode, plan)

    train, validation = world.episodes("train")[:8], world.episodes("validation")[:4]
    merging.fit(small("cma_es"), Telling(), train, validation, seed=0)  # pyright: ignore[reportArgumentType]
    assert set(asked) <= {episode.episode_id for episode in chain(train, validation)}
    assert len([a for a in asked if a in {e.episode_id for e in train}]) == 4


def test_the_untrained_merge_has_equal_coefficients(shelf: Shelf) -> None:
    fitted = merging.untrained(small("gradient", per="layer"), shelf, seed=0)
    assert set(fitted.coefficients.flat) == {0.5}
    assert fitted.coefficients.writers == ("north", "south")


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "dare", "lora"])
def test_the_gradient_through_the_merged_forward_is_that_of_finite_differences(
    method: str, shelf: Shelf, world: StoryWorldSource
) -> None:
    env = small("gradient", method=method, per="layer")
    merger = merging.merger_of(env, shelf, env.writers, seed=0)
    loss = MergeLoss(shelf.model("generator"))
    requests = [shelf.request("generator", e) for e in world.episodes("train")[:2]]
    like = Coefficients(
        env.writers,
        "layer",
        {"model.layers.0": (0.6, 0.3), "model.layers.1": (0.4, 0.5), "outside": (0.7, 0.2)},
    )

    def of(values_GN: Tensor) -> Tensor:
        return loss.gradient_to(merger.merged_at(values_GN, like), requests)

    values = like.tensor_GN.requires_grad_()
    of(values).backward()
    assert values.grad is not None
    # The forward is in fp32: steps so large that what they change is not lost in its rounding.
    step = 1e-2
    for place in ((0, 0), (2, 1)):
        moved = like.tensor_GN
        moved[place] += step
        up = float(of(moved).detach())
        moved[place] -= 2 * step
        down = float(of(moved).detach())
        expected = (up - down) / (2 * step)
        assert float(values.grad[place]) == pytest.approx(expected, rel=0.02, abs=2e-4)


def test_a_batch_costs_what_its_chapters_cost_one_by_one(
    shelf: Shelf, world: StoryWorldSource
) -> None:
    requests = [shelf.request("north", e) for e in world.episodes("train")[:3]]
    writer = shelf.writer("north")
    one_by_one = mean_nll(writer.scorer, requests)  # pyright: ignore[reportArgumentType]
    assert float(batch_nll(writer.model, requests)) == pytest.approx(one_by_one, rel=1e-5)
    weights = dict(writer.model.state_dict())
    loss = MergeLoss(shelf.model("generator"))
    assert loss(weights, requests) == pytest.approx(one_by_one, rel=1e-6)
    assert float(loss.gradient_to(weights, requests)) == pytest.approx(one_by_one, rel=1e-5)
    assert torch.is_grad_enabled()
