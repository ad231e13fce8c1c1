"""A shelf of tiny writers: three of one vocabulary, and one with another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.prompts import Prompts
from envs.sources.storyworld import StoryWorldSource
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.types import ScoreRequest
from train.scratch import random_model, train_tokenizer

Writer = tuple[PreTrainedModel, PreTrainedTokenizerBase]


class WritersInMemory:
    """What fusion asks of a shelf."""

    def __init__(self, writers: dict[str, Writer]) -> None:
        self.writers = writers
        self.encoders = {
            name: GeneratorEncoder(tokenizer, Prompts(), max_gold_tokens=40)
            for name, (_, tokenizer) in writers.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.writers)

    def model(self, name: str) -> PreTrainedModel:
        return self.writers[name][0]

    def tokenizer(self, name: str) -> PreTrainedTokenizerBase:
        return self.writers[name][1]

    def request(self, name: str, episode: Episode, plan: str = "") -> ScoreRequest:
        return self.encoders[name].request(episode, plan)

    def check_vocabularies(self, names: Sequence[str]) -> None:
        first = self.tokenizer(names[0]).get_vocab()
        for name in names:
            if self.tokenizer(name).get_vocab() != first:
                raise ValueError(f"{name} has another vocabulary than {names[0]}")


@pytest.fixture(scope="session")
def shelf(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> WritersInMemory:
    """Three writers of one vocabulary, of two families."""
    large = {"initializer_range": 0.2}
    convolutions = {
        "layer_types": ["conv", "full_attention"],
        "conv_L_cache": 4,
        "block_auto_adjust_ff_dim": False,
    }
    models = {
        "generator": make_model("llama", seed=1, **large),
        "north": make_model("lfm2", seed=2, **convolutions, **large),
        "south": make_model("llama", seed=3, **large),
    }
    return WritersInMemory({name: (model, tokenizer) for name, model in models.items()})


@pytest.fixture(scope="session")
def mixed_shelf(shelf: WritersInMemory, world: StoryWorldSource) -> WritersInMemory:
    """The generator, and a writer with a tokenizer of its own."""
    texts = [episode.chapter.text for episode in world.episodes("train")]
    own = train_tokenizer(texts[: len(texts) // 2], 330)
    small = {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
    }
    foreign = (random_model(small, own, seed=4), own)
    return WritersInMemory({"generator": shelf.writers["generator"], "foreign": foreign})
