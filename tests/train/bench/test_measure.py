"""Contenders take turns on the same work and are held to the same results."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference
from rewards.types import Likelihood
from train.bench.chunked import Chunked
from train.bench.contenders import OneAtATime, PaddedBatch
from train.bench.measure import Agreement, Result, in_turns
from train.bench.memory import NoPeak
from train.bench.ours import OursCold, OursWarm
from train.bench.workload import Workload
from train.progress import silent


@dataclass(frozen=True)
class Fake:
    """The second token costs what it is told to; who was called is written down."""

    name: str
    nats: float | None = 1.0
    calls: list[str] = field(default_factory=list)

    def prepare(self, workload: Workload) -> None: ...

    def score(self, workload: Workload) -> list[Likelihood] | None:
        self.calls.append(self.name)
        return None if self.nats is None else [Likelihood(1 + self.nats, (1.0, self.nats))]

    def model_flops(self, workload: Workload) -> int:
        return 100


def race(workload: Workload, repeats: int, *contenders: Fake) -> list[Result]:
    cpu = torch.device("cpu")
    return in_turns(contenders, [workload], repeats, Agreement(1e-3), NoPeak(), cpu, silent)


def test_every_repeat_starts_with_another_contender(workload: Workload) -> None:
    calls: list[str] = []
    results = race(workload, 3, *(Fake(name, calls=calls) for name in "abc"))
    assert "".join(calls) == "abc" + "bca" + "cab"
    assert [(r.contender, len(r.seconds), r.model_flops) for r in results] == [
        ("a", 3, 100),
        ("b", 3, 100),
        ("c", 3, 100),
    ]


@pytest.mark.parametrize("nats", [1.01, math.nan])
def test_a_contender_with_other_results_is_refused_by_name(workload: Workload, nats: float) -> None:
    with pytest.raises(ValueError, match="wrong and right differ by"):
        race(workload, 1, Fake("right"), Fake("wrong", nats))


def test_a_floor_without_results_is_timed_and_not_compared(workload: Workload) -> None:
    floor = race(workload, 2, Fake("right"), Fake("floor", None))[1]
    assert len(floor.seconds) == 2


def test_all_contenders_give_the_dense_likelihoods_in_order(
    model: PreTrainedModel, workload: Workload
) -> None:
    expected = DenseScorer(model).score(workload.requests)
    ways = (OneAtATime(model), PaddedBatch(model, 3), Chunked(model, 3))
    for contender in (*ways, OursCold(model), OursWarm(model)):
        contender.prepare(workload)
        assert largest_difference(contender.score(workload), expected) < 2e-5


def test_a_prefix_that_lacks_one_token_would_be_noticed(
    model: PreTrainedModel, workload: Workload
) -> None:
    whole = OneAtATime(model).score(workload)
    cut = DenseScorer(model).score(
        [replace(r, prefix_ids=r.prefix_ids[1:]) for r in workload.requests]
    )
    with pytest.raises(ValueError, match="cut and whole differ by up to"):
        Agreement(1e-3).check({"whole": whole, "cut": cut})
