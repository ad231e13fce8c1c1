"""Routing, learned: the router that an env names, fitted on what every writer was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from envs.routing import Routing
from envs.types import GENERATOR, Cost, Episode
from train.ensembles import model_routers
from train.ensembles.fitted import Decision, reading_cost, writing_costs, written_by
from train.ensembles.routers import Arrays, by_features, names_of
from train.ensembles.sharing import in_shares
from train.ensembles.shelf import ROUTER, Shelf
from train.ensembles.worth import Worth, context_features

ARRAYS = "router.safetensors"


@dataclass(frozen=True)
class ByFeatures:
    """A router on the generator's state after the context."""

    env: Routing
    shelf: Shelf
    writers: tuple[str, ...]
    arrays: Arrays
    seed: int

    def scores(self, episodes: Sequence[Episode]) -> Tensor:
        features_ED = context_features(self.shelf, episodes)
        return by_features(self.env, self.seed).scores(self.arrays, features_ED)

    def cost(self, episode: Episode) -> Cost:
        """Of choosing: the generator reads the context."""
        return reading_cost(self.shelf, episode)

    def save(self, folder: Path) -> None:
        save_file({k: v.contiguous() for k, v in self.arrays.items()}, folder / ARRAYS)


@dataclass(frozen=True)
class ByModel:
    """A router that is a language model."""

    env: Routing
    shelf: Shelf
    writers: tuple[str, ...]
    network: model_routers.Encoder | model_routers.AsksByName

    def scores(self, episodes: Sequence[Episode]) -> Tensor:
        rows = model_routers.context_rows(self.env, self.shelf, episodes)
        return in_shares(
            rows, lambda some: model_routers.scores(self.network, some, self.env.batch_size)
        )

    def cost(self, episode: Episode) -> Cost:
        """Of choosing: the router reads the context."""
        (row,) = model_routers.context_rows(self.env, self.shelf, [episode])
        return model_routers.reading_cost(self.network, row)

    def save(self, folder: Path) -> None:
        model_routers.save(self.network, folder)


@dataclass(frozen=True)
class Routed:
    """Gives each chapter to the writer with the greatest score."""

    router: ByFeatures | ByModel

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        """The router reads the context beside the writer, who writes the chapter."""
        shelf, found = self.router.shelf, []
        chosen = names_of(self.router.writers, self.router.scores(episodes))
        for name, episode in zip(chosen, episodes, strict=True):
            cost = writing_costs(shelf, [name], episode)
            costs = {**cost, ROUTER: self.router.cost(episode)}
            found.append(Decision(written_by(name), costs))
        return found

    def save(self, folder: Path) -> None:
        self.router.save(folder)


def fit(
    env: Routing,
    shelf: Shelf,
    train: Sequence[Episode],
    validation: Sequence[Episode],
    seed: int,
) -> Routed:
    """Learns which writer is worth most on which context."""
    writers = shelf.chosen(env.writers)
    train = train[: env.max_episodes]
    worth_EW, val_worth_EW = (
        Worth.of(shelf, writers, some).less_costs(env.cost_weight) for some in (train, validation)
    )
    if env.router in ("encoder", "policy"):
        network = model_routers.network(env, shelf, writers, seed)
        rows, val_rows = (
            model_routers.context_rows(env, shelf, some) for some in (train, validation)
        )
        model_routers.fit(network, rows, worth_EW, val_rows, val_worth_EW, env, seed)
        return Routed(ByModel(env, shelf, writers, network))
    features, val_features = (context_features(shelf, some) for some in (train, validation))
    arrays = by_features(env, seed).fit(features, worth_EW, val_features, val_worth_EW)
    return Routed(ByFeatures(env, shelf, writers, arrays, seed))


def untrained(env: Routing, shelf: Shelf, seed: int) -> Routed:
    """The same router with what it starts from."""
    writers = shelf.chosen(env.writers)
    if env.router in ("encoder", "policy"):
        return Routed(
            ByModel(env, shelf, writers, model_routers.network(env, shelf, writers, seed))
        )
    width = 2 * shelf.model(GENERATOR).config.get_text_config().hidden_size
    arrays = by_features(env, seed).untrained(width, len(writers))
    return Routed(ByFeatures(env, shelf, writers, arrays, seed))


def load(env: Routing, folder: Path, shelf: Shelf) -> Routed:
    """A fitted router, from its folder."""
    before = untrained(env, shelf, 0).router
    if isinstance(before, ByModel):
        model_routers.load(before.network, folder)
        return Routed(before)
    return Routed(ByFeatures(env, shelf, before.writers, load_file(folder / ARRAYS), 0))
