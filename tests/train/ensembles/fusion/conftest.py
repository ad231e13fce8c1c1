"""A shelf of tiny writers: three of one vocabulary, and one with another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.prompts import Prompts
from envs.sources.storyworld import StoryWorldSource
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from train.ensembles.shelf import Shelf, Writer
from train.scratch import random_model, train_tokenizer


def dressed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Writer:
    encoder = GeneratorEncoder(tokenizer, Prompts(), max_gold_tokens=40)
    return Writer(model, tokenizer, encoder, DenseScorer(model))


def shelf_of(writers: dict[str, Writer]) -> Shelf:
    return Shelf({name: lambda w=writer: w for name, writer in writers.items()}, dressed)


@pytest.fixture(scope="session")
def shelf(make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> Shelf:
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
    return shelf_of({name: dressed(model, tokenizer) for name, model in models.items()})


@pytest.fixture(scope="session")
def mixed_shelf(shelf: Shelf, world: StoryWorldSource) -> Shelf:
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
    foreign = dressed(random_model(small, own, seed=4), own)
    return shelf_of({"generator": shelf.writer("generator"), "foreign": foreign})
