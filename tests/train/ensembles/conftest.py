"""A shelf of tiny writers: the generator, another, and one that cuts words otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from envs.sources.storyworld import StoryWorldSource
    from train.ensembles.shelf import Shelf


@pytest.fixture(scope="session")
def other_tokenizer(world: StoryWorldSource) -> PreTrainedTokenizerBase:
    from train.scratch import train_tokenizer

    return train_tokenizer((episode.chapter.text for episode in world.episodes("train")), 320)


@pytest.fixture
def make_shelf(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> Callable[..., Shelf]:
    """Makes a shelf of `generator`, `north` and `south`, and of the `more` writers."""
    from envs.prompts import Prompts
    from rewards.encode import GeneratorEncoder
    from rewards.likelihood.dense import DenseScorer
    from train.ensembles.shelf import Shelf, Writer

    def dressed(model: PreTrainedModel, own: PreTrainedTokenizerBase) -> Writer:
        return Writer(model, own, GeneratorEncoder(own, Prompts()), DenseScorer(model))

    def make(**more: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> Shelf:
        own = {
            name: (make_model(seed=seed), tokenizer)
            for seed, name in enumerate(("generator", "north", "south"))
        }
        load = {name: lambda pair=pair: dressed(*pair) for name, pair in (own | more).items()}
        return Shelf(load, dressed)

    return make
