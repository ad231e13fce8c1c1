"""Fusions of a shelf of writers: fitted, scored, saved, and never told the chapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.fusion import LogitFusion
from envs.sources.storyworld import StoryWorldSource
from envs.types import Chapter, Cost, Episode, StoryContext
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import ProductOfExperts
from rewards.likelihood.rounding import largest_difference
from rewards.types import Likelihood, ScoreRequest
from train.ensembles.fusion import FittedFusion, context_nlls, fit
from train.ensembles.fusion_rules import (
    Adaptive,
    Contrastive,
    FusionRule,
    Mixture,
    Product,
    ProxyTuning,
    Seats,
    WithAndWithoutContext,
)
from train.ensembles.fusion_scoring import fusion_scorer, requests_of
from train.ensembles.routing_rules import ComplementaryRouter, TokenRouter

RULES: list[tuple[FusionRule, tuple[str, ...]]] = [
    (Product(), ()),
    (Product(sum_to_one=True), ()),
    (Mixture(), ()),
    (ProxyTuning(), ()),
    (Contrastive(), ("generator", "south")),
    (WithAndWithoutContext(), ("generator",)),
    (Adaptive(), ()),
    (TokenRouter(), ()),
    (ComplementaryRouter(rank=2), ()),
]


@pytest.fixture(scope="module")
def episodes(world: StoryWorldSource) -> dict[str, list[Episode]]:
    return {
        "train": world.episodes("train")[:2],
        "validation": world.episodes("validation")[:2],
        "test": world.episodes("test")[:2],
    }


def likelihoods(fitted: FittedFusion, episodes: list[Episode]) -> list[Likelihood]:
    shelf = fitted.shelf
    requests = requests_of(shelf, episodes, fitted.outcomes(episodes))
    return fusion_scorer(shelf, fitted.seats.writers).score(requests)


def cost_per_token(fitted: FittedFusion, episodes: list[Episode]) -> float:
    found = likelihoods(fitted, episodes)
    return sum(one.nll / one.num_tokens for one in found) / len(found)


@pytest.mark.parametrize(("rule", "writers"), RULES)
def test_a_learned_fusion_gains_on_validation_is_kept_whole_and_scores_as_it_was_learned(
    rule: FusionRule,
    writers: tuple[str, ...],
    shelf: Any,
    episodes: dict[str, list[Episode]],
    tmp_path: Path,
) -> None:
    env = LogitFusion(rule, writers, epochs=2, learning_rate=0.02, batch_size=1)
    fitted = fit(env, shelf, episodes["train"], episodes["validation"], seed=0)
    reported = fitted.report["validation_nll"]
    before = cost_per_token(fitted.untrained, episodes["validation"])
    after = cost_per_token(fitted, episodes["validation"])
    assert before == pytest.approx(reported[0], abs=1e-4)
    assert after == pytest.approx(min(reported), abs=1e-4)
    assert after <= before + 1e-6
    assert sum(fitted.report.get("shares", {"all": 1}).values()) == pytest.approx(1)

    fitted.save(tmp_path)
    again = FittedFusion.load(tmp_path, shelf)
    assert again.env == env
    assert again.outcomes(episodes["test"]) == fitted.outcomes(episodes["test"])


@pytest.mark.parametrize(("rule", "writers"), [(Adaptive(), ()), (TokenRouter(), ())])
def test_an_outcome_depends_on_the_context_and_not_on_the_chapter(
    rule: FusionRule, writers: tuple[str, ...], shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(rule, writers, weights="fixed")
    fitted = fit(env, shelf, [], episodes["validation"], seed=0)
    (episode, other) = episodes["test"]
    another_chapter = replace(episode, chapter=Chapter("", "Nobody came, and the ring was lost."))
    assert fitted.outcomes([another_chapter]) == fitted.outcomes([episode])
    if rule.reads_context:
        assert fitted.outcomes([other]) != fitted.outcomes([episode])


def test_adaptive_weights_are_those_of_the_contexts_likelihood(
    shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    fitted = fit(LogitFusion(Adaptive(), weights="fixed"), shelf, [], [], seed=0)
    losses = []
    for name in shelf.names:
        ids = shelf.request(name, episode).prefix_ids
        with torch.inference_mode():
            log_p = shelf.model(name)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        losses.append(-log_p[range(len(ids) - 1), list(ids[1:])].sum() / len(ids))
    (outcome,) = fitted.outcomes([episode])
    assert isinstance(outcome.combine, ProductOfExperts)
    expected = (-torch.stack(losses)).softmax(0).tolist()
    assert list(outcome.combine.weights) == pytest.approx(expected, abs=1e-5)


def test_context_aware_at_strength_zero_is_the_writer_alone(
    shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(WithAndWithoutContext(0.0), ("generator",), weights="fixed")
    found = likelihoods(fit(env, shelf, [], [], seed=0), episodes["test"])
    plain = [shelf.request("generator", episode) for episode in episodes["test"]]
    alone = DenseScorer(shelf.model("generator")).score(plain)
    assert largest_difference(found, alone) <= 1e-5


def test_who_reads_no_context_reads_the_prompt_without_it(
    shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    env = LogitFusion(WithAndWithoutContext(), ("generator",), weights="fixed")
    outcomes = fit(env, shelf, [], [], seed=0).outcomes([episode])
    (request,) = requests_of(shelf, [episode], [replace(outcomes[0], plan="Ann pays.")])
    full = shelf.request("generator", episode, "Ann pays.")
    bare = shelf.request("generator", replace(episode, context=StoryContext(())))
    assert request.token_ids == full.token_ids
    assert request.mixture.prompts == (None, bare.prefix_ids + bare.guidance_ids)


def test_searched_weights_gain_within_their_budget(
    shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(Product(), weights="searched", evaluations=9)
    fitted = fit(env, shelf, episodes["train"], episodes["validation"], seed=0)
    reported = fitted.report["validation_nll"]
    assert len(reported) == 9
    assert min(reported) < reported[0]
    found = cost_per_token(fitted, episodes["validation"])
    assert found == pytest.approx(min(reported), abs=1e-4)


def test_costs_count_what_every_seat_reads(shelf: Any, episodes: dict[str, list[Episode]]) -> None:
    (episode,) = episodes["test"][:1]
    read = shelf.request("generator", episode).num_tokens
    context = len(shelf.request("generator", episode).prefix_ids)
    (product,) = fit(LogitFusion(Product(), weights="fixed"), shelf, [], [], 0).costs([episode])
    assert {
        name: (cost.calls, cost.read_tokens) for name, cost in product.items()
    } == dict.fromkeys(shelf.names, (1, read))
    (adaptive,) = fit(LogitFusion(Adaptive(), weights="fixed"), shelf, [], [], 0).costs([episode])
    assert adaptive["north"] == Cost(calls=2, read_tokens=read + context)


def test_a_writer_with_another_vocabulary_is_refused_unless_read_by_its_strings(
    mixed_shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(Mixture(), epochs=1)
    with pytest.raises(ValueError, match="foreign has another vocabulary"):
        fit(env, mixed_shelf, [], [], seed=0)
    by_string = replace(env, vocabulary="by_string")
    fitted = fit(by_string, mixed_shelf, episodes["train"], episodes["validation"], seed=0)
    unmapped = fitted.report["unmapped/foreign"]
    assert 0 < unmapped["vocabulary"] < 0.5
    assert 0 < unmapped["chapters"] < 0.5
    reported = fitted.report["validation_nll"]
    found = cost_per_token(fitted, episodes["validation"])
    assert found == pytest.approx(min(reported), abs=1e-4)


def test_a_context_is_measured_in_nats_per_token_of_the_reference(
    mixed_shelf: Any, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    seats = Seats(("generator", "foreign"))
    (nll_K,) = context_nlls(Adaptive(), mixed_shelf, seats, [episode])
    ids = mixed_shelf.request("foreign", episode).prefix_ids
    asked = ScoreRequest("book/1", ids[:1], (), ids[1:])
    (whole,) = DenseScorer(mixed_shelf.model("foreign")).score([asked])
    num_tokens = len(mixed_shelf.request("generator", episode).prefix_ids)
    assert nll_K is not None
    assert nll_K[1].item() == pytest.approx(whole.nll / num_tokens)
