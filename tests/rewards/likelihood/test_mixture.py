"""Several generators, one distribution: combined by pencil, scored against full logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import Contrast, LinearMixture, ProductOfExperts
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.rounding import largest_difference
from rewards.types import Combine, Mixture, ScoreRequest

MakeModel = Callable[..., PreTrainedModel]
MakeRequest = Callable[..., ScoreRequest]

TOLERANCE = 1e-5


def odds(*weights: float) -> Tensor:
    """Logits of one position whose probabilities are in the ratio of the weights."""
    return torch.tensor([[math.log(w) for w in weights]])


def probabilities(scores: Tensor) -> list[float]:
    return scores.softmax(-1)[0].tolist()


def test_a_product_of_experts_by_pencil() -> None:
    # 1:3 and 1:2 make 1:6; squared, the second makes 1:12.
    two = [odds(1, 3), odds(1, 2)]
    assert probabilities(ProductOfExperts((1.0, 1.0))(two)) == pytest.approx([1 / 7, 6 / 7])
    assert probabilities(ProductOfExperts((1.0, 2.0))(two)) == pytest.approx([1 / 13, 12 / 13])


def test_a_linear_mixture_by_pencil() -> None:
    # 1/4 and 3/4, 1/2 and 1/2, mixed one to three: 7/16 and 9/16. Logits need not be normalised.
    two = [odds(1, 3), odds(5, 5)]
    assert probabilities(LinearMixture((0.25, 0.75))(two)) == pytest.approx([7 / 16, 9 / 16])


def test_a_generator_of_no_weight_has_no_say() -> None:
    ruled_out = torch.tensor([[-math.inf, 0.0]])
    mixed = LinearMixture((1.0, 0.0))([odds(1, 3), ruled_out])
    assert probabilities(mixed) == pytest.approx([1 / 4, 3 / 4])


def test_a_contrast_by_pencil() -> None:
    # Base 1:1, expert 1:6, anti-expert 1:2: 1:3 at alpha 1, 1:9 at alpha 2.
    three = [odds(1, 1), odds(1, 6), odds(1, 2)]
    assert probabilities(Contrast()(three)) == pytest.approx([1 / 4, 3 / 4])
    assert probabilities(Contrast(2.0)(three)) == pytest.approx([1 / 10, 9 / 10])


@pytest.mark.parametrize("combine", [ProductOfExperts((1.0, 1.0)), Contrast()])
def test_combining_changes_no_generators_logits(combine: Combine) -> None:
    logits = [odds(1, 2) for _ in range(3 if isinstance(combine, Contrast) else 2)]
    combine(logits)
    assert all(torch.equal(z, odds(1, 2)) for z in logits)


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        (lambda: LinearMixture((0.5, 0.6)), r"shares that sum to 1; got \[0.5, 0.6\]"),
        (lambda: LinearMixture((1.5, -0.5)), "shares that sum to 1"),
        (lambda: Contrast()([odds(1, 2)]), "1 generators is combined with 3 weights"),
        (lambda: ProductOfExperts((1.0,))([odds(1)] * 2), "2 generators is combined with 1 weight"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(
    combine: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        combine()


@pytest.fixture(scope="module")
def models(make_family: MakeModel) -> dict[str, PreTrainedModel]:
    """Three generators of unlike families over one vocabulary."""
    names = {"plain": "llama", "expert": "lfm2", "anti": "gpt2"}
    return {name: make_family(family) for name, family in names.items()}


def together(request: ScoreRequest, *names: str, combine: Combine) -> ScoreRequest:
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
