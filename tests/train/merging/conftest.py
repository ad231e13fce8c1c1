"""Three tiny writers of one architecture on a shelf: a base, and two that learned from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.prompts import Prompts
from envs.sources.storyworld import StoryWorldSource
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from train.ensembles.shelf import Shelf, Writer
from train.merging.objective import batch_nll

MakeModel = Callable[..., PreTrainedModel]
MakeShelf = Callable[..., Shelf]


def taught(
    model: PreTrainedModel,
    encoder: GeneratorEncoder,
    episodes: Sequence[Episode],
    learning_rate: float,
) -> PreTrainedModel:
    """A copy of the model after a few steps on these chapters."""
    learner = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.Adam(learner.parameters(), lr=learning_rate)
    requests = [encoder.request(episode) for episode in episodes]
    for _ in range(8):
        optimizer.zero_grad()
        batch_nll(learner, requests).backward()
        optimizer.step()
    return learner.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def three_models(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, world: StoryWorldSource
) -> dict[str, PreTrainedModel]:
    encoder = GeneratorEncoder(tokenizer, Prompts(), max_context_tokens=24, max_gold_tokens=24)
    episodes = world.episodes("train")
    base = make_model(seed=0).eval().requires_grad_(False)
    return {
        "generator": base,
        "north": taught(base, encoder, episodes[:6], 3e-3),
        "south": taught(base, encoder, episodes[6:12], 1e-3),
    }


@pytest.fixture
def make_shelf(tokenizer: PreTrainedTokenizerBase) -> MakeShelf:
    """A shelf of copies of models, by name; all read by one tokenizer unless another is given."""

    def dress(model: PreTrainedModel, own: PreTrainedTokenizerBase) -> Writer:
        encoder = GeneratorEncoder(own, Prompts(), max_context_tokens=24, max_gold_tokens=24)
        return Writer(model, own, encoder, DenseScorer(model))

    def make(
        models: dict[str, PreTrainedModel],
        tokenizers: dict[str, PreTrainedTokenizerBase] | None = None,
    ) -> Shelf:
        def load(name: str) -> Callable[[], Writer]:
            own = (tokenizers or {}).get(name, tokenizer)
            return lambda: dress(copy.deepcopy(models[name]), own)

        return Shelf({name: load(name) for name in models}, dress)

    return make


@pytest.fixture
def shelf(three_models: dict[str, PreTrainedModel], make_shelf: MakeShelf) -> Shelf:
    return make_shelf(three_models)
