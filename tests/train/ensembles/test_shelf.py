"""Writers by name: each scores as it does alone, and on the reference's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from envs.sources.storyworld import StoryWorldSource
from envs.types import Choice, Fusion, Guidance, Merge
from rewards.likelihood.fusion import LinearMixture
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.weighted_sum import WeightedTerm
from train.ensembles.shelf import Shelf, check_ensemble
from train.scratch import random_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RAW = [WeightedTerm("raw", Raw())]
MakeShelf = Callable[..., Shelf]


def reward_of(shelf: Shelf) -> LikelihoodImprovement:
    encoder = shelf.writer("generator").encoder
    return LikelihoodImprovement(shelf, encoder, RAW, StatusRules(), writers=shelf.encoders)


def test_a_choice_is_worth_what_the_chosen_writer_says(
    make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    shelf, episodes = make_shelf(), world.episodes("test")[:3]
    found = reward_of(shelf).likelihoods([(e, Choice("north")) for e in episodes])
    alone = shelf.likelihoods("north", episodes)
    plain = shelf.likelihoods("generator", episodes)
    assert [own.nll for own, _ in found] == pytest.approx([a.nll for a in alone], rel=1e-6)
    assert [base.nll for _, base in found] == pytest.approx([p.nll for p in plain], rel=1e-6)
    assert all(own.nll != base.nll for own, base in found)


def test_outcomes_of_one_call_do_not_mix(make_shelf: MakeShelf, world: StoryWorldSource) -> None:
    shelf, episode = make_shelf(), world.episodes("test")[0]
    half = LinearMixture((0.5, 0.5))
    outcomes = [
        Choice("south"),
        Guidance(""),
        Fusion(("north", "south"), half),
        Merge("north"),
        Choice("north", plan="A plan."),
    ]
    together = reward_of(shelf).likelihoods([(episode, outcome) for outcome in outcomes])
    for (own, _), outcome in zip(together, outcomes, strict=True):
        ((alone, _),) = reward_of(shelf).likelihoods([(episode, outcome)])
        assert own.nll == pytest.approx(alone.nll, rel=1e-6)
    nlls = [own.nll for own, _ in together]
    assert min(nlls[0], nlls[3]) < nlls[2] + 1 and len({round(n, 3) for n in nlls}) == 5


def test_another_tokenizer_s_nats_stand_on_the_reference_s_tokens(
    make_shelf: MakeShelf, world: StoryWorldSource, other_tokenizer: PreTrainedTokenizerBase
) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    model = random_model({"model_type": "llama", **small, **heads}, other_tokenizer, 3)
    shelf, episodes = make_shelf(foreign=(model, other_tokenizer)), world.episodes("test")[:2]
    assert shelf.shares_tokens("north") and not shelf.shares_tokens("foreign")
    found = reward_of(shelf).likelihoods([(e, Choice("foreign")) for e in episodes])
    for (own, baseline), episode in zip(found, episodes, strict=True):
        request = shelf.request("foreign", episode)
        (alone,) = shelf.writer("foreign").scorer.score([request])
        assert len(request.gold_ids) != baseline.num_tokens
        assert own.num_tokens == baseline.num_tokens
        assert own.nll == pytest.approx(alone.nll, rel=1e-6)


def test_writers_of_other_tokens_cannot_be_combined(
    make_shelf: MakeShelf, other_tokenizer: PreTrainedTokenizerBase
) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = random_model({"model_type": "llama", **small, **heads}, other_tokenizer, 3)
    shelf = make_shelf(foreign=(model, other_tokenizer))
    shelf.check_vocabularies(["generator", "north"])
    with pytest.raises(ValueError, match=r"generator and foreign give .* tokens different ids"):
        shelf.check_vocabularies(["generator", "foreign"])


def test_a_writer_who_is_not_there_is_named(make_shelf: MakeShelf, world: StoryWorldSource) -> None:
    shelf, episode = make_shelf(), world.episodes("test")[0]
    with pytest.raises(ValueError, match=f"{episode.episode_id}.*no writer 'east'.*north"):
        reward_of(shelf).likelihoods([(episode, Choice("east"))])
    with pytest.raises(ValueError, match=r"env\.writers: there is no writer 'east'"):
        shelf.chosen(["east"])
    with pytest.raises(ValueError, match="names a writer twice"):
        shelf.chosen(["north", "north"])


def test_an_ensemble_without_writers_is_refused() -> None:
    from envs.routing import Routing

    with pytest.raises(ValueError, match=r"wants other writers.*writers=storyworld_halves"):
        check_ensemble(Routing(), {})
    with pytest.raises(ValueError, match=r"writers\.generator: the reference has this name"):
        check_ensemble(Routing(), {"generator": object()})
    with pytest.raises(ValueError, match=r"writers\.router: the name stands for"):
        check_ensemble(Routing(), {"router": object()})
    with pytest.raises(ValueError, match="no writer 'east'"):
        check_ensemble(Routing(writers=("east",)), {"north": object()})
