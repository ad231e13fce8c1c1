"""Writing together with caches: the same tokens as without, and as one writer alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from envs.sampling import Sampling
from envs.sources.storyworld import StoryWorldSource
from envs.tokens import end_id
from envs.types import Episode, Fusion
from rewards.fused_request import fused_request
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import ContextAware, Contrast, LinearMixture, ProductOfExperts
from rewards.likelihood.known import Known
from rewards.likelihood.logits import body
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.routing import Gate, TokenRouting
from rewards.types import Mixture, ScoreRequest
from train.ensembles.fused_generation import fused_ids, write
from train.ensembles.shelf import Shelf
from train.writing import write_chapter

GREEDY = Sampling(max_new_tokens=12, temperature=0)
SAMPLED = Sampling(max_new_tokens=12, temperature=0.8, top_k=50, top_p=0.95)
PENALISED = replace(SAMPLED, repetition_penalty=1.2)
GATE = Gate(Known(torch.linspace(-2, 2, 3 * 32).reshape(3, 32)), Known(torch.zeros(1, 3)))
ALL = ("generator", "north", "south")


@pytest.fixture(scope="module")
def episode(world: StoryWorldSource) -> Episode:
    return world.episodes("test")[0]


def without_cache(
    shelf: Shelf, request: ScoreRequest, sampling: Sampling, seed: int
) -> tuple[int, ...]:
    """The same, every writer reading its whole row anew for each token."""
    mixture = request.mixture
    assert mixture is not None
    scorer = shelf.mixture_scorer(mixture.generators)
    prompts = [row.prefix_ids for row in scorer.readings(request)]
    written: list[int] = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        while len(written) < sampling.max_new_tokens:
            states = []
            for name, prompt in zip(mixture.generators, prompts, strict=True):
                spelled = [i for token in written for i in scorer.spelled(name, token)]
                ids = torch.tensor([[*prompt, *spelled]])
                model = scorer.models[name]
                states.append(body(model)(input_ids=ids).last_hidden_state[0, -1:])
            scores = scorer.combined(mixture, states)
            if sampling.temperature:
                scores = scores / sampling.temperature
                least = scores.topk(sampling.top_k).values[:, -1:]
                scores = scores.masked_fill(scores < least, -torch.inf)
                ordered, places = scores.softmax(-1).sort(descending=False)
                tail = places[ordered.cumsum(-1) <= 1 - sampling.top_p]
                scores[:, tail] = -torch.inf
                token = int(torch.multinomial(scores.softmax(-1), 1))
            else:
                token = int(scores.argmax(-1))
            if token == end_id(shelf.tokenizer("generator")):
                break
            written.append(token)
    return tuple(written)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize(
    "fusion",
    [
        Fusion(ALL, ProductOfExperts((0.5, 0.3, 0.4))),
        Fusion(ALL, LinearMixture((0.2, 0.5, 0.3))),
        Fusion(ALL, Contrast(0.5)),
        Fusion(("generator", "generator"), ContextAware(0.5), without_context=(1,)),
        Fusion(ALL, TokenRouting(GATE)),
    ],
)
def test_writing_with_caches_gives_the_tokens_of_writing_without(
    shelf: Shelf, episode: Episode, fusion: Fusion, sampling: Sampling
) -> None:
    request = fused_request(shelf.request, episode, fusion)
    scorer = shelf.mixture_scorer(fusion.writers)
    end = end_id(shelf.tokenizer("generator"))
    found = fused_ids(scorer, request, sampling, end, seed=5)
    assert found == without_cache(shelf, request, sampling, seed=5)
    assert found


def test_writers_of_two_vocabularies_write_with_caches_as_without(
    mixed_shelf: Shelf, episode: Episode
) -> None:
    fusion = Fusion(("generator", "foreign"), LinearMixture((0.3, 0.7)))
    request = fused_request(mixed_shelf.request, episode, fusion)
    scorer = mixed_shelf.mixture_scorer(fusion.writers)
    end = end_id(mixed_shelf.tokenizer("generator"))
    found = fused_ids(scorer, request, SAMPLED, end, seed=5)
    assert found == without_cache(mixed_shelf, request, SAMPLED, seed=5)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, PENALISED])
@pytest.mark.parametrize("place", range(3))
def test_all_weight_on_one_writer_writes_what_that_one_writes_alone(
    shelf: Shelf, episode: Episode, sampling: Sampling, place: int
) -> None:
    weights = tuple(float(i == place) for i in range(3))
    found = write(shelf, Fusion(ALL, ProductOfExperts(weights)), episode, sampling, seed=3)
    name = ALL[place]
    alone = write_chapter(
        shelf.model(name), shelf.tokenizer(name), shelf.request(name, episode), sampling, seed=3
    )
    assert found == alone


def test_writing_is_repeatable_and_follows_the_seed(shelf: Shelf, episode: Episode) -> None:
    fusion = Fusion(ALL, LinearMixture((0.2, 0.5, 0.3)))
    first, again, other = (write(shelf, fusion, episode, SAMPLED, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_chapter_ends_at_the_shortest_window(
    make_model: Callable[..., PreTrainedModel], shelf: Shelf, episode: Episode
) -> None:
    plain = shelf.request("generator", episode)
    short = make_model("llama", max_position_embeddings=plain.num_tokens)
    models = {"generator": shelf.model("generator"), "short": short}
    mixture = Mixture(tuple(models), LinearMixture((0.5, 0.5)))
    scorer = MixtureScorer(DenseScorer(models["generator"]), models)
    long = Sampling(max_new_tokens=200, temperature=1)
    found = fused_ids(scorer, replace(plain, mixture=mixture), long, end=-1, seed=0)
    assert len(found) == len(plain.gold_ids)
