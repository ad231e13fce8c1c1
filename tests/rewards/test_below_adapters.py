"""Policy and generator as the same weights: scored without the adapters, trained with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from rewards.below_adapters import BelowAdapters
from rewards.generator_key import weights_digest
from rewards.shared_prefix import SharedPrefixScorer
from rewards.types import Likelihood, ScoreRequest

MakeModel = Callable[..., PreTrainedModel]


def adapted(model: PreTrainedModel) -> PeftModel:
    """A policy in training whose adapters change the model a lot, and drop out."""
    policy = get_peft_model(
        model,
        LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False),
    )
    return policy.train()


def logits(policy: PeftModel) -> Tensor:
    with torch.no_grad():
        return policy.eval()(input_ids=torch.arange(20, 40)[None]).logits


@pytest.fixture
def requests(make_request: Callable[..., ScoreRequest]) -> list[ScoreRequest]:
    return [make_request(150, length, 20, seed=length) for length in (0, 9, 12)]


def test_adapters_change_no_digit_of_a_score(
    make_model: MakeModel, requests: list[ScoreRequest]
) -> None:
    expected = SharedPrefixScorer(make_model()).score(requests)
    model = make_model()
    scorer = BelowAdapters(SharedPrefixScorer(model), model)
    adapted(model)
    assert scorer.score(requests) == expected


def test_training_goes_on_as_it_was_after_a_score(
    make_model: MakeModel, requests: list[ScoreRequest]
) -> None:
    model = make_model()
    scorer = BelowAdapters(SharedPrefixScorer(model), model)
    policy = adapted(model)
    before, trainable = logits(policy), [p.requires_grad for p in policy.parameters()]
    policy.train()
    scorer.score(requests)
    assert all(module.training for module in policy.modules())
    assert [p.requires_grad for p in policy.parameters()] == trainable
    assert any(trainable)
    assert torch.equal(logits(policy), before)


def test_training_goes_on_after_a_score_that_failed(make_model: MakeModel) -> None:
    class Failing:
        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            raise ValueError("episode book/1: no")

    model = make_model()
    policy = adapted(model)
    before = logits(policy)
    with pytest.raises(ValueError, match="book/1"):
        BelowAdapters(Failing(), model).score([])
    assert torch.equal(logits(policy), before)


def test_without_adapters_it_is_the_plain_scorer(
    make_model: MakeModel, requests: list[ScoreRequest]
) -> None:
    model = make_model()
    key = weights_digest(model)
    scorer = SharedPrefixScorer(model)
    assert BelowAdapters(scorer, model).score(requests) == scorer.score(requests)
    assert weights_digest(model) == key
