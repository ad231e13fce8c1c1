"""The generator as a run asks it: exact, its baselines kept for later runs, its noise told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.prompts import Prompts
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.terms.raw import Raw
from rewards.terms.tiers import Tiers
from rewards.types import Likelihood, ScoreRequest
from rewards.weighted_sum import WeightedTerm
from train.schema import ScorerConfig
from train.scoring import baseline_store, make_scorer
from train.scoring_checks import check_episodes, probe_requests, scoring_noise

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
    model, requests = make_model(), probe_requests(encoder, [make_episode()])
    exact = make_scorer(model, ScorerConfig())
    _, line = scoring_noise(exact, model, ScorerConfig(), requests, TIERS)
    assert line.startswith("scoring noise: ")
    assert "far below the reward's first threshold of 0.05" in line
    assert "threshold" not in scoring_noise(exact, model, ScorerConfig(), requests, RAW)[1]
    noise, line = scoring_noise(Drifting(), model, ScorerConfig(), requests, TIERS)
    assert noise.largest > 0.05
    assert line.startswith("WARNING: ") and "NOT far below" in line


def test_before_training_it_is_told_what_the_generator_sees_of_the_episodes(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode]
) -> None:
    episodes = [make_episode("book/1", "Ann owes Bob a ring. " * 20), make_episode("book/2")]
    encoder = GeneratorEncoder(tokenizer, Prompts(), max_context_tokens=50, window=1024)
    line = check_episodes(encoder, episodes, make_model())
    assert line.startswith("generator's window: 1024 tokens; where a plan does not fit, ")
    assert line.endswith("; 1 of 2 episodes: context cut")


def test_an_episode_without_room_for_a_plan_is_named_before_training(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode]
) -> None:
    without_plan = GeneratorEncoder(tokenizer, Prompts()).request(make_episode()).num_tokens
    heading = len(tokenizer("\n\n## Plan\n")["input_ids"])
    for spare, room in ((heading + 3, 3), (heading, 0)):
        encoder = GeneratorEncoder(tokenizer, Prompts(), window=without_plan + spare)
        if room:
            line = check_episodes(encoder, [make_episode()], make_model())
            assert line.endswith("; plans have 3 tokens at least")
        else:
            with pytest.raises(ValueError, match=r"episode book/1: .* no room for a plan"):
                check_episodes(encoder, [make_episode()], make_model())


def test_an_episode_that_cannot_be_scored_is_named_before_training(
    make_model: MakeModel, encoder: GeneratorEncoder, make_episode: Callable[..., Episode]
) -> None:
    episodes = [make_episode("book/1"), make_episode("book/2", "Ann owes Bob a ring. " * 20)]
    with pytest.raises(ValueError, match=r"episode book/2: .* context of 128"):
        check_episodes(encoder, episodes, make_model(max_position_embeddings=128))
