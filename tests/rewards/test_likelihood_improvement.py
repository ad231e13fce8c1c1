"""The reward: zero for an empty plan, by the rules for an answer without one, else an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.stores.likelihood_store import DiskLikelihoodStore
from rewards.terms.raw import Raw
from rewards.terms.tiers import Tiers
from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest
from rewards.weighted_sum import WeightedTerm

MakeEpisode = Callable[..., Episode]
RAW = [WeightedTerm("raw", Raw())]
TIERS = [WeightedTerm("tiers", Tiers())]
COMPLETE, TRUNCATED, NO_PLAN = PlanStatus.COMPLETE, PlanStatus.TRUNCATED, PlanStatus.NO_PLAN


def rollout(episode: Episode, plan: str, status: PlanStatus = COMPLETE) -> Rollout:
    return Rollout(episode, (), Reply(plan), status, Guidance(plan))


def reward_of(
    scorer: LikelihoodScorer, encoder: GeneratorEncoder, **rules: Any
) -> LikelihoodImprovement:
    return LikelihoodImprovement(scorer, encoder, RAW, StatusRules(**rules))


def test_an_empty_plan_scores_exactly_zero(
    make_model: Callable[..., PreTrainedModel], encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    reward = reward_of(DenseScorer(make_model()), encoder)
    episodes = [make_episode("book/1"), make_episode("book/2", known="Cid left. " * 20)]
    together = reward(
        [rollout(e, plan) for e in episodes for plan in ("", "Ann pays.", "Ann pays. " * 9)]
    )
    assert [s.improvement for s in together[::3]] == [0.0, 0.0]
    assert all(s.improvement != 0.0 for s in together if s not in together[::3])
    # Also when it comes later and alone, when another batch would round otherwise.
    assert [reward([rollout(e, "")])[0].improvement for e in episodes] == [0.0, 0.0]


def test_an_improvement_by_pencil(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    num_plan_tokens = len(encoder.tokenizer("\n\n## Plan\nAnn pays.")["input_ids"])
    (score,) = reward_of(fake_scorer, encoder)([rollout(make_episode(), "Ann pays.")])
    # A hundredth of a nat less per token for each token of the plan section.
    assert score.improvement == pytest.approx(100 * (1 - math.exp(-0.01 * num_plan_tokens)))
    assert score.reward == score.improvement


def test_the_reward_is_the_shaped_improvement(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    reward = LikelihoodImprovement(fake_scorer, encoder, TIERS, StatusRules())
    plans = ["", "Ann pays."]
    assert [s.reward for s in reward([rollout(make_episode(), p) for p in plans])] == [0.0, 1.0]


def test_the_plain_likelihood_of_an_episode_is_scored_once(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    reward = reward_of(fake_scorer, encoder)
    first = reward([rollout(make_episode(), plan) for plan in ("Ann pays.", "Ann runs.")])
    later = reward([rollout(make_episode(), "Ann sings.")])
    assert len(fake_scorer.asked) == 1 + 2 + 1
    assert {s.baseline for s in (*first, *later)} == {first[0].baseline}


def test_a_whole_group_reaches_the_scorer_in_one_call_whatever_is_known_of_its_baseline(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    class Counting:
        calls: tuple[list[bool], ...] = ()

        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            self.calls += ([request.by_itself for request in requests],)
            return [Likelihood(1.0, (1.0,)) for _ in requests]

    scorer = Counting()
    reward = reward_of(scorer, encoder)
    for _ in range(2):
        reward([rollout(make_episode(), f"Plan {i}.") for i in range(4)])
    # The baseline, which the second call knows, goes by itself: no plan's digits depend on it.
    assert scorer.calls == ([True, False, False, False, False], [False] * 4)


def test_a_rule_gives_its_fixed_reward_without_scoring(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    reward = reward_of(fake_scorer, encoder, truncated=-0.5, no_plan=-1)
    plans = [("Ann", TRUNCATED), ("Ann pays.", COMPLETE), ("", NO_PLAN)]
    scores = reward([rollout(make_episode(), *plan) for plan in plans])
    assert [s.improvement is None for s in scores] == [True, False, True]
    assert (scores[0].reward, scores[2].reward) == (-0.5, -1.0)
    assert len(fake_scorer.asked) == 2


def test_zero_is_only_for_what_the_rules_judge_worthless(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    (score,) = reward_of(fake_scorer, encoder)([rollout(make_episode(), "", NO_PLAN)])
    assert (score.reward, score.improvement) == (0.0, None)


def test_a_truncated_plan_can_be_scored_as_it_stands(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    whole, cut = reward_of(fake_scorer, encoder)(
        [rollout(make_episode(), "Ann pays.", status) for status in (COMPLETE, TRUNCATED)]
    )
    assert whole == cut


def test_a_batch_without_plans_needs_no_generator(
    encoder: GeneratorEncoder, make_episode: MakeEpisode, make_model: Callable[..., PreTrainedModel]
) -> None:
    reward = reward_of(DenseScorer(make_model()), encoder)
    assert reward([rollout(make_episode(), "", NO_PLAN)])[0].reward == 0.0


def test_a_failed_score_is_an_error_that_names_the_episode_and_never_zero(
    encoder: GeneratorEncoder, make_episode: MakeEpisode, make_model: Callable[..., PreTrainedModel]
) -> None:
    rollouts = [rollout(make_episode("book/1"), "Ann pays.")]
    broken = make_model()
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match="episode book/1: the generator gave a likelihood of nan"):
        reward_of(DenseScorer(broken), encoder)(rollouts)
    with pytest.raises(
        ValueError, match=r"episode book/1: .* exceed the generator's context of 16"
    ):
        reward_of(DenseScorer(make_model(max_position_embeddings=16)), encoder)(rollouts)


def test_a_rule_is_a_number_or_score() -> None:
    with pytest.raises(ValueError, match=r"reward\.rules\.no_plan must be a number or 'score'"):
        StatusRules(no_plan="none")


def test_a_second_reward_with_the_same_store_computes_no_plain_likelihood(
    fake_scorer: Any, encoder: GeneratorEncoder, make_episode: MakeEpisode, tmp_path: Path
) -> None:
    def reward() -> LikelihoodImprovement:
        store = DiskLikelihoodStore(tmp_path, {"generator": "fake"})
        return LikelihoodImprovement(fake_scorer, encoder, RAW, StatusRules(), store)

    episodes = [make_episode(f"book/{i}", known=f"Ann owes Bob {i} rings.") for i in range(3)]
    rollouts = [rollout(e, plan) for e in episodes for plan in ("Ann pays.", "")]
    first = reward()(rollouts)
    # Three episodes, plain and with a plan; an empty plan is the plain one.
    assert len(fake_scorer.asked) == 3 + 3
    fake_scorer.asked.clear()
    assert reward()(rollouts) == first
    baselines = [encoder.request(e) for e in episodes]
    assert not set(baselines) & set(fake_scorer.asked)
    assert len(fake_scorer.asked) == 3
