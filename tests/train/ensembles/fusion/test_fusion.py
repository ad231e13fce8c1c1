"""Fusions of a shelf of writers: fitted, scored, saved, and never told the chapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from envs.fusion import LogitFusion
from envs.sources.storyworld import StoryWorldSource
from envs.types import Chapter, Cost, Episode, Outcome, StoryContext
from rewards.fused_request import fused_request
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import ProductOfExperts
from rewards.likelihood.rounding import largest_difference
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.types import Likelihood, ScoreRequest
from train.ensembles.fusion import FittedFusion, context_nlls, fit, load, untrained
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
from train.ensembles.routing_rules import ComplementaryRouter, TokenRouter
from train.ensembles.shelf import Shelf, check_ensemble

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
    """Scored as every outcome is."""
    shelf = fitted.shelf
    encoder = shelf.encoders["generator"]
    rules = StatusRules()
    reward = LikelihoodImprovement(shelf, encoder, (), rules, writers=shelf.encoders)
    pairs = list(zip(episodes, outcomes(fitted, episodes), strict=True))
    return [under for under, _ in reward.likelihoods(pairs)]


def outcomes(fitted: FittedFusion, episodes: list[Episode]) -> list[Outcome]:
    return [decision.outcome for decision in fitted.decide(episodes)]


def cost_per_token(fitted: FittedFusion, episodes: list[Episode]) -> float:
    found = likelihoods(fitted, episodes)
    return sum(one.nll / one.num_tokens for one in found) / len(found)


@pytest.mark.parametrize(("rule", "writers"), RULES)
def test_a_learned_fusion_gains_on_validation_is_kept_whole_and_scores_as_it_was_learned(
    rule: FusionRule,
    writers: tuple[str, ...],
    shelf: Shelf,
    episodes: dict[str, list[Episode]],
    tmp_path: Path,
) -> None:
    env = LogitFusion(rule=rule, writers=writers, epochs=2, learning_rate=0.02, batch_size=1)
    fitted = fit(env, shelf, episodes["train"], episodes["validation"], seed=0)
    reported = fitted.report["validation_nll"]
    before = cost_per_token(untrained(env, shelf, 0), episodes["validation"])
    after = cost_per_token(fitted, episodes["validation"])
    assert before == pytest.approx(reported[0], abs=1e-4)
    assert after == pytest.approx(min(reported), abs=1e-4)
    assert after <= before + 1e-6
    assert sum(fitted.report.get("shares", {"all": 1}).values()) == pytest.approx(1)

    fitted.save(tmp_path)
    again = load(env, tmp_path, shelf)
    assert again.decide(episodes["test"]) == fitted.decide(episodes["test"])


@pytest.mark.parametrize(("rule", "writers"), [(Adaptive(), ()), (TokenRouter(), ())])
def test_an_outcome_depends_on_the_context_and_not_on_the_chapter(
    rule: FusionRule, writers: tuple[str, ...], shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(rule=rule, writers=writers, weights="fixed")
    fitted = fit(env, shelf, [], episodes["validation"], seed=0)
    (episode, other) = episodes["test"]
    another_chapter = replace(episode, chapter=Chapter("", "Nobody came, and the ring was lost."))
    assert outcomes(fitted, [another_chapter]) == outcomes(fitted, [episode])
    if rule.reads_context:
        assert outcomes(fitted, [other]) != outcomes(fitted, [episode])


def test_adaptive_weights_are_those_of_the_contexts_likelihood(
    shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    fitted = fit(LogitFusion(rule=Adaptive(), weights="fixed"), shelf, [], [], seed=0)
    losses = []
    for name in shelf.names:
        ids = shelf.request(name, episode).prefix_ids
        with torch.inference_mode():
            log_p = shelf.model(name)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        losses.append(-log_p[range(len(ids) - 1), list(ids[1:])].sum() / len(ids))
    (outcome,) = outcomes(fitted, [episode])
    assert isinstance(outcome.combine, ProductOfExperts)
    expected = (-torch.stack(losses)).softmax(0).tolist()
    assert list(outcome.combine.weights) == pytest.approx(expected, abs=1e-5)


def test_context_aware_at_strength_zero_is_the_writer_alone(
    shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(rule=WithAndWithoutContext(0.0), writers=("generator",), weights="fixed")
    found = likelihoods(fit(env, shelf, [], [], seed=0), episodes["test"])
    plain = [shelf.request("generator", episode) for episode in episodes["test"]]
    alone = DenseScorer(shelf.model("generator")).score(plain)
    assert largest_difference(found, alone) <= 1e-5


def test_a_writer_against_itself_needs_no_others() -> None:
    check_ensemble(LogitFusion(rule=WithAndWithoutContext(), writers=("generator",)), {})
    with pytest.raises(ValueError, match="wants other writers beside the generator"):
        check_ensemble(LogitFusion(rule=Product()), {})


def test_who_reads_no_context_reads_the_prompt_without_it(
    shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    env = LogitFusion(rule=WithAndWithoutContext(), writers=("generator",), weights="fixed")
    (outcome,) = outcomes(fit(env, shelf, [], [], seed=0), [episode])
    fusion = replace(outcome, plan="Ann pays.")
    request = fused_request(shelf.request, episode, fusion)
    full = shelf.request("generator", episode, "Ann pays.")
    bare = shelf.request("generator", replace(episode, context=StoryContext(())))
    assert request.token_ids == full.token_ids
    assert request.mixture.prompts == (None, bare.prefix_ids + bare.guidance_ids)


def test_searched_weights_gain_within_their_budget(
    shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(rule=Product(), weights="searched", evaluations=9)
    fitted = fit(env, shelf, episodes["train"], episodes["validation"], seed=0)
    reported = fitted.report["validation_nll"]
    assert len(reported) == 9
    assert min(reported) < reported[0]
    found = cost_per_token(fitted, episodes["validation"])
    assert found == pytest.approx(min(reported), abs=1e-4)


def test_every_seat_reads_its_prompt_and_writes(
    shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    (episode,) = episodes["test"][:1]
    request = shelf.request("generator", episode)
    bare = shelf.request("generator", replace(episode, context=StoryContext(())))
    own = len(request.prefix_ids + request.guidance_ids)
    product = untrained(LogitFusion(rule=Product()), shelf, 0)
    (decision,) = product.decide([episode])

    def cost(writer: str, calls: int, read: int, written: int) -> Cost:
        weights = sum(p.numel() for p in shelf.model(writer).parameters())
        operations = pytest.approx(2 * weights * (read + written) / 1e9)
        return Cost(calls, read, written, giga_operations=operations)

    assert decision.costs == {name: cost(name, 1, own, 40) for name in shelf.names}
    env = LogitFusion(rule=WithAndWithoutContext(), writers=("generator",))
    both = own + len(bare.prefix_ids + bare.guidance_ids)
    (decision,) = untrained(env, shelf, 0).decide([episode])
    assert decision.costs == {"generator": cost("generator", 2, both, 80)}


def test_a_writer_with_another_vocabulary_is_refused_unless_read_by_its_strings(
    mixed_shelf: Shelf, episodes: dict[str, list[Episode]]
) -> None:
    env = LogitFusion(rule=Mixture(), epochs=1)
    with pytest.raises(ValueError, match="generator and foreign give"):
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
    mixed_shelf: Shelf, episodes: dict[str, list[Episode]]
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
