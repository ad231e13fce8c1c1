"""Several generators, one distribution: scored against full logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import ContextAware, Contrast, LinearMixture, ProductOfExperts
from rewards.likelihood.known import Known
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.rounding import largest_difference
from rewards.likelihood.routing import Gate, TokenRouting
from rewards.types import Combine, Likelihood, Mixture, ScoreRequest, StateCombine

MakeModel = Callable[..., PreTrainedModel]
MakeRequest = Callable[..., ScoreRequest]

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def models(make_family: MakeModel) -> dict[str, PreTrainedModel]:
    """Three generators of unlike families over one vocabulary."""
    names = {"plain": "llama", "expert": "lfm2", "anti": "gpt2"}
    return {name: make_family(family) for name, family in names.items()}


def together(request: ScoreRequest, *names: str, combine: Combine | StateCombine) -> ScoreRequest:
    return ScoreRequest(
        request.episode_id,
        request.prefix_ids,
        request.guidance_ids,
        request.gold_ids,
        Mixture(names, combine),
    )


def test_a_mixture_is_scored_as_the_full_logits_say(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    combine = Contrast(0.5)
    plain = [make_request(20 + n, n, 10, seed=n) for n in range(5)]
    asked = [together(r, "plain", "expert", "anti", combine=combine) for r in plain]
    alone = DenseScorer(models["plain"])
    found = MixtureScorer(alone, models, positions_per_chunk=7).score([*asked, *plain])
    assert found[5:] == alone.score(plain)
    for request, likelihood in zip(plain, found, strict=False):
        ids_T = torch.tensor(request.prefix_ids + request.guidance_ids + request.gold_ids)
        with torch.inference_mode():
            logits = [models[n](input_ids=ids_T[None]).logits[0] for n in models]
        log_p_TV = combine(logits).double().log_softmax(-1)
        first = len(ids_T) - len(request.gold_ids)
        expected = [-log_p_TV[t - 1, ids_T[t]].item() for t in range(first, len(ids_T))]
        assert likelihood.token_nll == pytest.approx(expected, abs=TOLERANCE)


def test_a_generator_mixed_with_itself_scores_as_alone(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    plain = make_request(20, 5, 10)
    alone = DenseScorer(models["plain"])
    scorer = MixtureScorer(alone, models)
    for combine in (
        LinearMixture((0.3, 0.7)),
        ProductOfExperts((0.4, 0.6)),
    ):
        mixed = scorer.score([together(plain, "plain", "plain", combine=combine)])
        assert largest_difference(mixed, alone.score([plain])) <= TOLERANCE


def test_one_hot_weights_score_as_that_generator_alone(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    plain = make_request(20, 5, 10)
    scorer = MixtureScorer(DenseScorer(models["plain"]), models)
    for place, name in enumerate(models):
        alone = DenseScorer(models[name]).score([plain])
        hot = tuple(float(i == place) for i in range(3))
        for combine in (LinearMixture(hot), ProductOfExperts(hot)):
            mixed = scorer.score([together(plain, *models, combine=combine)])
            assert largest_difference(mixed, alone) <= TOLERANCE


def test_chapters_combined_in_unlike_ways_share_a_batch_and_score_as_alone(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    asked = [
        together(
            make_request(20 + n, n, 10 + n, seed=n),
            "plain",
            "anti",
            combine=LinearMixture((n / 4, 1 - n / 4)),
        )
        for n in range(5)
    ]
    scorer = MixtureScorer(DenseScorer(models["plain"]), models)
    one_by_one = [scorer.score([request])[0] for request in asked]
    assert largest_difference(scorer.score(asked), one_by_one) <= TOLERANCE


def test_a_generator_may_read_another_prompt_than_the_others(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    full, blind = make_request(20, 5, 10), make_request(3, 0, 10)
    blind_ids = blind.prefix_ids
    alone = DenseScorer(models["plain"])
    scorer = MixtureScorer(alone, models)
    names = ("plain", "plain")

    def mixed(alpha: float) -> list[Likelihood]:
        mixture = Mixture(names, ContextAware(alpha), (None, blind_ids))
        return scorer.score([replace(full, mixture=mixture)])

    assert largest_difference(mixed(0.0), alone.score([full])) <= TOLERANCE
    only_blind = replace(full, prefix_ids=blind_ids, guidance_ids=())
    # At alpha -1 the weights are 0 and 1.
    assert largest_difference(mixed(-1.0), alone.score([only_blind])) <= TOLERANCE


def test_a_gate_sees_what_stands_before_the_token_and_nothing_else(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    weight = torch.linspace(-3, 3, 2 * 32).reshape(2, 32)
    combine = TokenRouting(Gate(Known(weight), Known(torch.zeros(1, 2))))
    plain = make_request(20, 5, 10)
    asked = together(plain, "plain", "anti", combine=combine)
    later = replace(asked, gold_ids=(*plain.gold_ids[:5], *reversed(plain.gold_ids[5:])))
    scorer = MixtureScorer(DenseScorer(models["plain"]), models)
    one, other = scorer.score([asked, later])
    assert one.token_nll[:5] == pytest.approx(other.token_nll[:5], abs=TOLERANCE)

    ids_T = torch.tensor(plain.token_ids)
    with torch.inference_mode():
        outputs = [
            models[n](input_ids=ids_T[None], output_hidden_states=True) for n in ("plain", "anti")
        ]
    states_TH = outputs[0].hidden_states[-1][0]
    log_p_TV = combine.at(states_TH)([o.logits[0] for o in outputs]).log_softmax(-1)
    first = len(ids_T) - len(plain.gold_ids)
    expected = [-log_p_TV[t - 1, ids_T[t]].item() for t in range(first, len(ids_T))]
    assert one.token_nll == pytest.approx(expected, abs=TOLERANCE)


def test_a_scorer_of_one_generator_refuses_a_mixture(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    asked = together(make_request(20, 5, 10), "plain", "anti", combine=LinearMixture((0.5, 0.5)))
    with pytest.raises(ValueError, match="book/0: the request combines the generators plain, anti"):
        DenseScorer(models["plain"]).score([asked])


def test_a_name_without_a_generator_is_refused(
    models: dict[str, PreTrainedModel], make_request: MakeRequest
) -> None:
    asked = together(make_request(20, 5, 10), "plain", "poet", combine=LinearMixture((0.5, 0.5)))
    scorer = MixtureScorer(DenseScorer(models["plain"]), models)
    with pytest.raises(ValueError, match=r"book/0: no generator is named 'poet'; there are plain,"):
        scorer.score([asked])


def test_generators_of_different_vocabularies_are_refused(make_family: MakeModel) -> None:
    larger = make_family("llama")
    larger.resize_token_embeddings(512)
    models = {"plain": make_family("llama"), "larger": larger}
    with pytest.raises(ValueError, match=r"over one vocabulary; got plain \d+, larger 512"):
        MixtureScorer(DenseScorer(models["plain"]), models)


def test_prompts_that_are_not_one_for_each_generator_are_refused() -> None:
    with pytest.raises(ValueError, match="2 generators has 1 prompts"):
        Mixture(("plain", "anti"), LinearMixture((0.5, 0.5)), ((1, 2),))
