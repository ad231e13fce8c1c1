"""The embedded story world as a source: unlimited books, no files needed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs import storyworld_prose as prose
from envs.storyworld import PARTS, StoryWorld, Turn, rng_of, spoil, uninformed_answer
from envs.types import Episode, Split

Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class StoryWorldSource:
    """Books of the story world. Each stage has training books of its own."""

    seed: int = 0
    """Which world: another seed gives other books under the same four rules."""
    chapters_per_book: Annotated[int, Field(ge=2, le=12)] = 6
    rule_strength: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Probability with which the author follows each rule."""
    writing_books: Count = 2000
    """Books that the generator learns to write from."""
    demonstration_books: Count = 600
    """Books of the warm start."""
    train_books: Count = 800
    """Books that the policy learns from by reinforcement."""
    validation_books: Count = 40
    test_books: Count = 60
    kinds: tuple[str, ...] = ()
    """Kinds of thread that the writing samples are about; empty for all five. Writers of different
    kinds know different halves of the world."""
    planless_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of writing samples without a plan."""
    plan_noise: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Share of writing samples for which a given part of the plan is wrong."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in prose.KINDS:
                raise ValueError(
                    f"kinds: no thread is a {kind!r}; take of {', '.join(prose.KINDS)}"
                )

    @property
    def _world(self) -> StoryWorld:
        return StoryWorld(self.seed, self.chapters_per_book, self.rule_strength)

    def episodes(self, split: Split) -> list[Episode]:
        first = self.writing_books + self.demonstration_books if split == "train" else 0
        num_books = {
            "train": self.train_books,
            "validation": self.validation_books,
            "test": self.test_books,
        }[split]
        return [episode for episode, _ in self._books(split, first, num_books)]

    def writing_samples(self) -> list[tuple[Episode, str]]:
        rng = rng_of("writing", self.seed)
        return [
            (episode, "" if rng.random() < self.planless_share else self._noisy_plan(turn, rng))
            for episode, turn in self._books("train", 0, self.writing_books)
            if not self.kinds or turn.happening.kind in self.kinds
        ]

    def demonstrations(self, marker: str) -> list[tuple[Episode, str]]:
        rng = rng_of("demonstrations", self.seed)
        books = self._books("train", self.writing_books, self.demonstration_books)
        return [(episode, uninformed_answer(turn, marker, rng)) for episode, turn in books]

    def key(self) -> Mapping[str, object]:
        return {"source": "storyworld", **dataclasses.asdict(self)}

    def _books(self, split: Split, first: int, num_books: int) -> list[tuple[Episode, Turn]]:
        return [
            pair
            for book in range(first, first + num_books)
            for pair in self._world.book(split, book)
        ]

    def _noisy_plan(self, turn: Turn, rng: random.Random) -> str:
        """The true plan with each part wrong now and then, so that the generator learns caution."""
        happening = turn.happening
        for part in PARTS:
            if rng.random() < self.plan_noise:
                happening = spoil(dataclasses.replace(turn, happening=happening), part, rng)
        return prose.plan(rng.randrange(prose.NUM_PLAN_WORDINGS), happening)
