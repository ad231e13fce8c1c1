"""The generator as a run asks it: exact, its baselines kept for later runs, its noise told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.types import Episode
from rewards.dense import DenseScorer
from rewards.encode import GeneratorEncoder
from rewards.terms.raw import Raw
from rewards.terms.tiers import Tiers
from rewards.types import Likelihood, ScoreRequest
from rewards.weighted_sum import WeightedTerm
from train.schema import ScorerConfig
from train.scoring import baseline_store, make_scorer, scoring_noise

MakeModel = Callable[..., PreTrainedModel]
RAW = [WeightedTerm("raw", Raw())]
TIERS = [WeightedTerm("tiers", Tiers())]


@pytest.fixture
def requests(encoder: GeneratorEncoder, make_episode: Callable[..., Episode]) -> list[ScoreRequest]:
    episode = make_episode(known="Ann owes Bob a ring, and Bob knows of it. " * 20)
    return [encoder.request(episode, plan) for plan in ("", "Ann pays.", "Bob waits at the mill.")]


@pytest.mark.parametrize("prefix_store_gb", [0.0, 0.1])
def test_a_run_scores_as_the_dense_scorer_does_the_second_time_too(
    make_model: MakeModel, requests: list[ScoreRequest], prefix_store_gb: float
) -> None:
    model = make_model()
    expected = DenseScorer(model).score(requests)
    scorer = make_scorer(model, ScorerConfig(prefix_store_gb=prefix_store_gb))
    for _ in range(2):
        found = scorer.score(requests)
        assert [f.nll for f in found] == pytest.approx([e.nll for e in expected], abs=1e-3)


def test_baselines_belong_to_the_weights_that_gave_them(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: list[ScoreRequest],
    tmp_path: Path,
) -> None:
    kept = {requests[0]: Likelihood(3.0, (1.0, 2.0))}
    baseline_store(make_model(seed=1), tokenizer, tmp_path).add(kept)
    assert baseline_store(make_model(seed=1), tokenizer, tmp_path).lookup(requests) == kept
    assert baseline_store(make_model(seed=2), tokenizer, tmp_path).lookup(requests) == {}
    rounded: Any = make_model(seed=1).to(torch.bfloat16)
    assert baseline_store(rounded, tokenizer, tmp_path).lookup(requests) == {}


@dataclass
class Drifting:
    """A scorer that adds to every token what it has been asked before: the order decides."""

    calls: int = 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        self.calls += 1
        tokens = [tuple(2.0 + 0.01 * self.calls for _ in r.gold_ids) for r in requests]
        return [Likelihood(sum(each), each) for each in tokens]


def test_noise_is_told_beside_the_first_threshold_and_judged_by_it(
    make_model: MakeModel, encoder: GeneratorEncoder, make_episode: Callable[..., Episode]
) -> None:
    model, episodes = make_model(), [make_episode()]
    exact = make_scorer(model, ScorerConfig())
    line, is_fine = scoring_noise(exact, model, encoder, episodes, TIERS)
    assert is_fine and "far below the reward's first threshold of 0.05" in line
    line, is_fine = scoring_noise(exact, model, encoder, episodes, RAW)
    assert is_fine and "threshold" not in line
    line, is_fine = scoring_noise(Drifting(), model, encoder, episodes, TIERS)
    assert not is_fine and "NOT far below" in line
