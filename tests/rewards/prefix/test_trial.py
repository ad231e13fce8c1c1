"""A path is given up for being wrong or impossible, and for nothing that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.ranks.exchange import LostRank
from rewards.types import ScoreRequest

MakeModel = Callable[..., PreTrainedModel]


@pytest.fixture
def group(make_request: Callable[..., ScoreRequest]) -> list[ScoreRequest]:
    return [make_request(140, 4 * i, 20, seed=i) for i in range(5)]


class FailingCalls:
    """Calls of a model's last layer that use a cache, of which the chosen ones end in an error."""

    def __init__(self, model: PreTrainedModel, error: Exception, which: Sequence[int]) -> None:
        self.error, self.which, self.num_calls = error, which, 0
        model.get_submodule("model.norm").register_forward_hook(self._fail)
        model.get_submodule("model").register_forward_pre_hook(self._note, with_kwargs=True)
        self.is_prefill = False

    def _note(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.is_prefill = kwargs.get("use_cache", False)

    def _fail(self, *_: Any) -> None:
        if self.is_prefill:
            self.num_calls += 1
            if self.num_calls in self.which:
                raise self.error


def chosen(scorer: SharedPrefixScorer) -> list[str | None]:
    return [path and path.name for path in scorer.paths.values()]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("a kernel failed to launch")],
    ids=["out_of_memory", "any_other"],
)
def test_an_error_that_passes_costs_no_path(
    make_family: MakeModel, group: list[ScoreRequest], error: Exception
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    FailingCalls(scorer.model, error, which=[1])
    scorer.score(group)
    assert chosen(scorer) == ["merged attention"]


def test_an_error_that_comes_again_costs_the_path(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    FailingCalls(scorer.model, RuntimeError("a kernel failed to launch"), which=[1, 2])
    scorer.score(group)
    assert chosen(scorer) == ["expanded cache"]


def test_where_memory_is_too_short_for_a_longer_trial_the_choice_holds_less_far(
    make_family: MakeModel, group: list[ScoreRequest], make_request: Callable[..., ScoreRequest]
) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    FailingCalls(scorer.model, torch.OutOfMemoryError("CUDA out of memory."), which=[2, 3])
    budget = scorer.dense.budget.max_tokens
    found = scorer.score(group)
    assert chosen(scorer) == ["merged attention"]
    assert [reach.prefix_tokens for reach in scorer.paths] == [140]
    assert scorer.dense.budget.max_tokens == budget
    assert largest_difference(found, DenseScorer(scorer.model).score(group)) <= 1e-5
    longer = [make_request(150, 4 * i, 20, seed=i) for i in range(5)]
    scorer.score(longer)
    assert [reach.prefix_tokens for reach in scorer.paths] == [140, 300]


def test_a_lost_rank_ends_the_trial(make_family: MakeModel, group: list[ScoreRequest]) -> None:
    scorer = SharedPrefixScorer(make_family("llama"))
    lost = FailingCalls(scorer.model, LostRank("rank 0 lost the other processes"), which=[1])
    with pytest.raises(LostRank):
        scorer.score(group)
    assert (lost.num_calls, scorer.paths) == (1, {})
