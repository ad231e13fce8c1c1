"""What makes an ensemble's outcomes: fitted on some episodes, asked about others, kept as files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from envs.ensemble import Ensemble
from envs.types import GENERATOR, Choice, Cost, Episode, Guidance, Outcome, giga_operations
from train.analysis.rows import writing_cost
from train.ensembles.shelf import Shelf


@dataclass(frozen=True)
class Decision:
    """How one chapter is written, and what that takes of each writer: tokens read before it, and
    written, those of deciding with them.
    """

    outcome: Outcome
    costs: Mapping[str, Cost]


class Fitted(Protocol):
    """An ensemble that has learned, or not yet. It never looks at the chapter it decides about."""

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        """One decision for each chapter, in order; each is worked out once."""
        ...

    def save(self, folder: Path) -> None:
        """Leaves it in `folder`, as JSON and safetensors."""
        ...


class Learner(Protocol):
    """A module of `train.ensembles`, or of a user's: how one kind of ensemble is made."""

    def fit(
        self,
        env: Ensemble,
        shelf: Shelf,
        train: Sequence[Episode],
        validation: Sequence[Episode],
        seed: int,
    ) -> Fitted:
        """Learns from `train`, and chooses among what it learned on `validation`."""
        ...

    def untrained(self, env: Ensemble, shelf: Shelf, seed: int) -> Fitted:
        """The same before it has learned anything."""
        ...

    def load(self, env: Ensemble, folder: Path, shelf: Shelf) -> Fitted:
        """What `save` left in `folder`."""
        ...


def learner_of(env: Ensemble) -> Learner:
    """The module that the env names."""
    return importlib.import_module(env.learner)  # pyright: ignore[reportReturnType]


def written_by(name: str) -> Outcome:
    """The chapter as this writer alone writes it."""
    return Guidance("") if name == GENERATOR else Choice(name)


def writing_costs(shelf: Shelf, writers: Sequence[str], episode: Episode) -> dict[str, Cost]:
    """What it takes these writers to write a chapter of the length of the author's, each token read
    and written by all of them.
    """
    return {
        name: writing_cost(shelf.request(name, episode), shelf.num_weights(name))
        for name in writers
    }


def reading_cost(shelf: Shelf, episode: Episode) -> Cost:
    """What it takes the generator to read the context, for whoever decides by its state."""
    whole = writing_cost(shelf.request(GENERATOR, episode), None)
    operations = giga_operations(shelf.num_weights(GENERATOR), whole.read_tokens)
    return replace(whole, generated_tokens=0, giga_operations=operations)
