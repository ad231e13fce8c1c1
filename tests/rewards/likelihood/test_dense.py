"""Likelihoods are those that the model's own full logits give, whatever the batch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from rewards.likelihood.dense import DenseScorer
from rewards.types import Likelihood, ScoreRequest

# Nats per token. Measured on every family below: at most 6e-6 where a scale of 100 spreads the
# logits, 5e-7 elsewhere.
TOLERANCE = 2e-5

# Factors far from 1, so that a forgotten one shows.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 8},
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 8},
    "granite": {"logits_scaling": 0.01},
    "hyperclovax": {"logits_scaling": 40.0},
    "cohere": {"logit_scale": 30.0},
    "lfm2": {
        "layer_types": ["conv", "full_attention"],
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": False,
    },
    "falcon_h1": {
        "lm_head_multiplier": 20.0,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
    },
    "gpt2": {},
}

MakeModel = Callable[..., PreTrainedModel]


def request(prefix: int, guidance: int, gold: int, seed: int = 0) -> ScoreRequest:
    """A request of random tokens: so many before the plan, in it, and in the chapter."""
    rng = random.Random(f"{prefix}/{guidance}/{gold}/{seed}")
    ids = [tuple(rng.randrange(5, 300) for _ in range(n)) for n in (prefix, guidance, gold)]
    return ScoreRequest(f"book/{seed}", *ids)


REQUESTS = [request(3 + 5 * i, 2 * i, 4 + i, seed=i) for i in range(5)]


def oracle(model: PreTrainedModel, asked: ScoreRequest) -> list[float]:
    """Each gold token's cost from the full logits of its sequence alone, in float64."""
    ids_T = torch.tensor(asked.prefix_ids + asked.guidance_ids + asked.gold_ids)
    with torch.inference_mode():
        logits_TV = model(input_ids=ids_T[None]).logits[0]
    log_probabilities_TV = logits_TV.double().log_softmax(-1)
    first = len(ids_T) - len(asked.gold_ids)
    return [-log_probabilities_TV[t - 1, ids_T[t]].item() for t in range(first, len(ids_T))]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_what_the_full_logits_of_the_family_give(
    make_model: MakeModel, family: str
) -> None:
    model = make_model(family, **FAMILIES[family])
    found = DenseScorer(model, max_tokens_per_batch=100, positions_per_chunk=7).score(REQUESTS)
    for asked, likelihood in zip(REQUESTS, found, strict=True):
        assert likelihood.token_nll == pytest.approx(oracle(model, asked), abs=TOLERANCE)
        assert likelihood.nll == pytest.approx(sum(likelihood.token_nll), abs=1e-9)


def test_a_family_whose_logits_the_scorer_does_not_know_is_refused(make_model: MakeModel) -> None:
    class Louder(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> CausalLMOutputWithPast:
            outputs = super().forward(*args, **kwargs)
            outputs.logits = 1.5 * outputs.logits
            return outputs

    with pytest.raises(ValueError, match=r"generator\.model: Louder makes its logits in a way"):
        DenseScorer(Louder(make_model("llama").config))


def test_a_model_in_bfloat16_is_no_unknown_family(make_model: MakeModel) -> None:
    model = make_model("cohere", logit_scale=30.0)
    exact = DenseScorer(model).score(REQUESTS)
    rounded = DenseScorer(model.to(torch.bfloat16)).score(REQUESTS)
    for a, b in zip(exact, rounded, strict=True):
        assert a.nll == pytest.approx(b.nll, rel=0.02)


@pytest.mark.parametrize("positions_per_chunk", [1, 3, 1000])
def test_a_score_does_not_depend_on_the_chunks(
    make_model: MakeModel, positions_per_chunk: int
) -> None:
    model = make_model()
    whole = DenseScorer(model).score(REQUESTS)
    chunked = DenseScorer(model, positions_per_chunk=positions_per_chunk).score(REQUESTS)
    assert_close(chunked, whole)


def test_a_score_does_not_depend_on_its_batch_or_the_order(make_model: MakeModel) -> None:
    model = make_model()
    alone = [DenseScorer(model).score([asked])[0] for asked in REQUESTS]
    assert_close(DenseScorer(model).score(REQUESTS), alone)
    assert_close(DenseScorer(model).score(REQUESTS[::-1])[::-1], alone)
    assert_close(DenseScorer(model, max_tokens_per_batch=60).score(REQUESTS), alone)


def test_what_follows_a_chapter_in_its_batch_is_never_read(make_model: MakeModel) -> None:
    model = make_model("lfm2", **FAMILIES["lfm2"])
    longer = request(60, 0, 8, seed=9)
    alone = DenseScorer(model).score([REQUESTS[0]])
    assert_close(DenseScorer(model).score([REQUESTS[0], longer])[:1], alone)


def test_where_padding_changes_what_a_family_computes_rows_are_not_padded(
    make_family: MakeModel, make_request: Callable[..., ScoreRequest]
) -> None:
    """Beyond `index_topk`, what follows a row changes which of its tokens are attended to."""
    model = make_family("deepseek_v32")
    scorer = DenseScorer(model)
    # Within it, beyond it, and beyond twice that: padded, they were off by 0.28 nats.
    for prefix in (70, 190, 300):
        asked = [make_request(prefix, 4 * i, 12, seed=i) for i in range(4)]
        for found, each in zip(scorer.score(asked), asked, strict=True):
            assert found.token_nll == pytest.approx(oracle(model, each), abs=TOLERANCE)


def test_rows_of_one_length_share_a_call_where_padding_is_not_inert(
    make_family: MakeModel, make_request: Callable[..., ScoreRequest]
) -> None:
    model = make_family("deepseek_v32")
    scorer = DenseScorer(model)
    shapes = [(190, 4), (190, 4), (190, 4), (192, 4), (192, 4)]
    asked = [make_request(*shape, 12, seed=i) for i, shape in enumerate(shapes)]
    scorer.score(asked)
    sizes = sizes_of_calls(model)
    scorer.score(asked)
    assert sizes == [(2, 208), (3, 206)]


def test_where_padding_is_inert_that_is_tried_at_every_doubling_of_the_length(
    make_model: MakeModel,
) -> None:
    model = make_model()
    scorer, sizes = DenseScorer(model), sizes_of_calls(model)
    scorer.score([request(20, 0, 5), request(22, 0, 5)])
    # The shorter row alone, beside the longer one and at twice its length; the longer one alike.
    assert sizes == [(1, 25), (1, 27), (1, 54), (1, 27), (1, 54), (2, 27)]
    sizes.clear()
    scorer.score([request(46, 0, 5), request(49, 0, 5)])
    assert sizes == [(2, 54)]


def sizes_of_calls(model: PreTrainedModel) -> list[tuple[int, ...]]:
    """Rows and tokens of each call of the model from now on."""
    sizes: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, outputs: sizes.append(tuple(inputs[0].shape))
    )
    return sizes


def test_equal_requests_get_the_very_same_score(make_model: MakeModel) -> None:
    first, other, again = DenseScorer(make_model()).score([REQUESTS[0], REQUESTS[1], REQUESTS[0]])
    assert first is again
    assert first != other


def test_no_requests_have_no_scores(make_model: MakeModel) -> None:
    assert DenseScorer(make_model()).score([]) == []


def test_a_likelihood_that_is_not_finite_is_an_error_that_names_the_episode(
    make_model: MakeModel,
) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match="episode book/3: the generator gave a likelihood of nan"):
        DenseScorer(model).score([REQUESTS[3]])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(3, 0, 0, seed=7), "episode book/7: the gold chapter is empty"),
        (request(0, 0, 3, seed=7), "episode book/7: nothing stands before the gold chapter"),
        (
            replace(request(3, 2, 3, seed=7), guidance_ids=(400,)),
            "episode book/7: token ids from .* to 400 are not all in the generator's vocabulary of",
        ),
        (
            replace(request(3, 2, 3, seed=7), gold_ids=(5, -1)),
            "episode book/7: token ids from -1 to",
        ),
        (
            request(1000, 17, 8, seed=7),
            "episode book/7: 1025 tokens exceed the generator's context",
        ),
    ],
)
def test_a_request_that_cannot_be_scored_is_an_error_that_names_the_episode(
    make_model: MakeModel, asked: ScoreRequest, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DenseScorer(make_model()).score([REQUESTS[0], asked])


def test_the_context_of_a_family_with_its_own_name_for_it_is_known(make_model: MakeModel) -> None:
    scorer = DenseScorer(make_model("gpt2"))
    assert scorer.score([request(50, 4, 10)])[0].num_tokens == 10
    with pytest.raises(ValueError, match="65 tokens exceed the generator's context of 64"):
        scorer.score([request(50, 5, 10)])


def test_the_generator_is_frozen(make_model: MakeModel) -> None:
    model = make_model().train()
    DenseScorer(model)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def assert_close(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.token_nll == pytest.approx(b.token_nll, abs=TOLERANCE)
