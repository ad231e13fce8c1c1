"""Scores do not depend on group, batch or order, and the model is left as it was."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference
from rewards.prefix.prefix_store import PrefixStore
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.types import Likelihood, ScoreRequest

MakeModel = Callable[..., PreTrainedModel]
MakeRequest = Callable[..., ScoreRequest]

# One family for each path.
FAMILIES = ("llama", "lfm2")
TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def group(make_request: MakeRequest) -> list[ScoreRequest]:
    """Six attempts at one chapter and its baseline."""
    return [make_request(140, n, 20, seed=n) for n in (0, 3, 9, 17, 33, 40, 41)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_does_not_depend_on_order_batch_or_group(
    make_family: MakeModel, group: list[ScoreRequest], make_request: MakeRequest, family: str
) -> None:
    model = make_family(family)
    expected = DenseScorer(model).score(group)
    scorer = SharedPrefixScorer(model)
    assert largest_difference(scorer.score(group), expected) <= TOLERANCE
    assert largest_difference(scorer.score(group[::-1])[::-1], expected) <= TOLERANCE
    alone = [scorer.score([asked])[0] for asked in group]
    assert largest_difference(alone, expected) <= TOLERANCE
    # Rows of at most 61 tokens behind a prefix of 140: one, two or three to a batch.
    for max_tokens in (61, 130, 250):
        small = SharedPrefixScorer(model, max_tokens)
        assert largest_difference(small.score(group), expected) <= TOLERANCE
    others = [make_request(120, n, 25, seed=n, episode=1) for n in range(7)]
    mixed = [asked for pair in zip(group, others, strict=True) for asked in pair]
    assert largest_difference(scorer.score(mixed)[::2], expected) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_read_once_though_its_requests_lie_apart(
    make_family: MakeModel, group: list[ScoreRequest], make_request: MakeRequest, family: str
) -> None:
    model = make_family(family)
    scorer = SharedPrefixScorer(model)
    scorer.score(group)
    others = [make_request(120, n, 25, seed=n, episode=1) for n in range(7)]
    mixed = [asked for pair in zip(group, others, strict=True) for asked in pair]
    with counted_tokens(model) as sizes:
        scorer.score(mixed)
    assert (sizes.count(120), sizes.count(140)) == (1, 1)


def test_merged_attention_reads_each_token_once_and_no_padding(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    model = make_family("llama")
    scorer = SharedPrefixScorer(model)
    scorer.score(group)
    with counted_tokens(model) as sizes:
        scorer.score(group)
    # x once, and each of the seven chapters with its plan: 7 · 20 + 143 tokens.
    assert sizes == [140, 283]


@pytest.mark.parametrize("family", [*FAMILIES, "dense"])
def test_no_digit_depends_on_whether_a_request_that_is_scored_by_itself_is_there(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family("llama" if family == "dense" else family)

    def scored(requests: list[ScoreRequest]) -> list[Likelihood]:
        scorer = DenseScorer(model) if family == "dense" else SharedPrefixScorer(model)
        return scorer.score(requests)

    plain = replace(group[0], by_itself=True)
    with_plain, without = scored([plain, *group[1:]]), scored(group[1:])
    assert with_plain[1:] == without
    # Nor its own on how many others share their prefix: three or six.
    assert scored([plain, *group[1:4]])[0] == with_plain[0]


def test_what_is_scored_by_itself_shares_the_prefix(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    model = make_family("llama")
    scorer = SharedPrefixScorer(model)
    asked = [replace(group[0], by_itself=True), *group[1:]]
    scorer.score(asked)
    with counted_tokens(model) as sizes:
        scorer.score(asked)
    # x once, then the plans together and the chapter without one.
    assert sizes == [140, 263, 20]


def test_equal_requests_get_the_very_same_score(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    first, _, again = scorer.score([group[1], group[0], group[1]])
    assert first is again


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_left_as_it_was(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family(family)
    weights = copy.deepcopy(model.state_dict())
    attention, hooks = model.config._attn_implementation, _num_hooks(model)
    SharedPrefixScorer(model).score(group)
    assert model.config._attn_implementation == attention
    assert _num_hooks(model) == hooks
    assert not model.training
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_after_an_error_in_the_model_its_attention_is_put_back(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    model = make_family("llama")
    scorer = SharedPrefixScorer(model)
    scorer.score(group)
    attention = model.config._attn_implementation

    def fail(*_: Any) -> None:
        raise RuntimeError("the last layer failed")

    handle = model.get_submodule("model.norm").register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="the last layer failed"):
        scorer.score(group)
    handle.remove()
    assert model.config._attn_implementation == attention


def test_a_lone_request_and_a_short_prefix_are_scored_densely(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    model = make_family("llama")
    scorer = SharedPrefixScorer(model)
    # Sharing would save nothing, or 3 tokens, for one more call of the model.
    asked = [make_request(140, 5, 20), make_request(3, 5, 20, 1), make_request(3, 6, 20, 2)]
    assert scorer.score(asked) == DenseScorer(model).score(asked)
    assert scorer.paths == {}


def test_requests_without_a_prefix_are_scored(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    asked = [make_request(0, n, 20, seed=n) for n in (1, 2, 3)]
    assert scorer.score(asked) == DenseScorer(scorer.model).score(asked)


def test_a_kept_prefix_is_not_read_again_and_changes_no_score(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    model, kept = make_family("llama"), PrefixStore(2**20)
    scorer = SharedPrefixScorer(model, prefixes=kept)
    first = scorer.score(group)
    assert kept.get(group[0].prefix_ids) is not None
    with counted_tokens(model) as sizes:
        assert scorer.score(group) == first
    assert sizes == [283]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_from_a_store_gives_the_same_scores_each_time(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family(family)
    expected = SharedPrefixScorer(model).score(group)
    scorer = SharedPrefixScorer(model, prefixes=PrefixStore(2**22))
    # Scoring from it changed neither the prefix that was put nor the one that was got.
    assert [scorer.score(group) for _ in range(3)] == [expected] * 3


def test_the_path_taken_and_why_is_logged_once(
    make_family: MakeModel, group: list[ScoreRequest], caplog: pytest.LogCaptureFixture
) -> None:
    scorer = SharedPrefixScorer(make_family("lfm2"))
    with caplog.at_level(logging.INFO, "rewards"):
        scorer.score(group)
        scorer.score(group)
    assert caplog.messages == [
        "scoring Lfm2ForCausalLM by expanded cache; not by merged attention: "
        "it has a LinearAttentionLayer"
    ]


def test_the_logits_that_live_at_once_do_not_grow_with_the_length(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    class Watching(torch.nn.Module):
        """A head that notes how many logits it was asked for."""

        def __init__(self, head: torch.nn.Module) -> None:
            super().__init__()
            self.head, self.weight, self.largest = head, head.weight, 0

        def forward(self, hidden: Tensor) -> Tensor:
            logits = self.head(hidden)
            self.largest = max(self.largest, logits.numel())
            return logits

    model = make_family("llama")
    head = Watching(model.get_output_embeddings())
    model.set_output_embeddings(head)
    scorer = SharedPrefixScorer(model, positions_per_chunk=32)
    largest = []
    for gold in (20, 200):
        scorer.score([make_request(140, n, gold, seed=n) for n in range(4)])
        largest.append(head.largest)
    assert largest == [32 * model.config.vocab_size] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_likelihood_that_is_not_finite_is_an_error_that_names_the_episode(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family(family)
    scorer = SharedPrefixScorer(model)
    scorer.score(group)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    for broken in (scorer, SharedPrefixScorer(model)):
        with pytest.raises(ValueError, match="episode book/0: the generator gave a likelihood of"):
            broken.score(group)


def test_what_cannot_be_scored_is_an_error_that_names_the_episode(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    for asked, message in (
        (make_request(3, 0, 0), "episode book/0: the gold chapter is empty"),
        (make_request(0, 0, 3), "episode book/0: nothing stands before the gold chapter"),
        (make_request(1000, 17, 8), "episode book/0: 1025 tokens exceed the generator's context"),
    ):
        with pytest.raises(ValueError, match=message):
            scorer.score([asked])


class counted_tokens:
    """Within it, lists how many tokens each call of the model's body was given."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.sizes = model, []

    def __enter__(self) -> list[int]:
        def note(module: torch.nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
            self.sizes.append(kwargs["input_ids"].numel())

        self.handle = self.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
        return self.sizes

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def _num_hooks(model: PreTrainedModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
