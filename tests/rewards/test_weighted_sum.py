"""A reward is the weighted sum of named terms, and a term that fails is named with its episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.clipped import Clipped
from rewards.terms.rank import Rank
from rewards.terms.raw import Raw
from rewards.terms.tiers import Tiers
from rewards.types import Measured
from rewards.weighted_sum import WeightedTerm, first_threshold, group_terms

MakeEpisode = Callable[..., Episode]


class Said:
    """A term that says what it is told to, and keeps what it saw."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.seen: list[list[str]] = []

    def __call__(self, group: Sequence[Measured]) -> Any:
        self.seen.append([m.rollout.outcome.plan for m in group])
        answer = self.answers.pop(0) if self.answers else [0.0] * len(group)
        if isinstance(answer, Exception):
            raise answer
        return answer


def rollout(episode: Episode, plan: str, status: PlanStatus = PlanStatus.COMPLETE) -> Rollout:
    return Rollout(episode, (), Reply(plan), status, Guidance(plan))


@pytest.fixture
def reward(fake_scorer: Any, encoder: GeneratorEncoder) -> Callable[..., LikelihoodImprovement]:
    def make(*terms: WeightedTerm, **options: Any) -> LikelihoodImprovement:
        return LikelihoodImprovement(
            fake_scorer, encoder, terms, StatusRules(no_plan=-7), **options
        )

    return make


def test_the_reward_is_the_weighted_sum_and_the_score_carries_the_terms_by_name(
    reward: Callable[..., LikelihoodImprovement], make_episode: MakeEpisode
) -> None:
    terms = [WeightedTerm("a", Said([1.0, 2.0]), 0.5), WeightedTerm("b", Said([10, 20]), -2.0)]
    logged_only = WeightedTerm("raw", Raw(), 0.0)
    rollouts = [rollout(make_episode(), plan) for plan in ("Ann pays.", "")]
    first, second = reward(*terms, logged_only)(rollouts)
    assert (first.reward, second.reward) == (0.5 * 1 - 2 * 10, 0.5 * 2 - 2 * 20)
    assert first.terms == {"a": 1.0, "b": 10.0, "raw": first.improvement}
    assert second.terms == {"a": 2.0, "b": 20.0, "raw": 0.0}


def test_a_term_sees_each_episode_s_attempts_together_and_none_that_a_rule_judged(
    reward: Callable[..., LikelihoodImprovement], make_episode: MakeEpisode
) -> None:
    one, two = make_episode("book/1"), make_episode("book/2", known="Cid left.")
    said = Said([1, 2], [3])
    plans = [(one, "Ann"), (two, "Cid"), (two, ""), (one, "Bob")]
    rollouts = [
        rollout(e, plan, PlanStatus.COMPLETE if plan else PlanStatus.NO_PLAN) for e, plan in plans
    ]
    scores = reward(WeightedTerm("said", said))(rollouts)
    assert said.seen == [["Ann", "Bob"], ["Cid"]]
    assert [s.reward for s in scores] == [1, 3, -7, 2]
    assert scores[2].terms == {}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (KeyError("plan"), r"reward\.terms\.said failed \(KeyError: 'plan'\); mend the term"),
        ([1.0], r"reward\.terms\.said gave 1 values for 2 attempts"),
        ([1.0, float("nan")], r"reward\.terms\.said gave nan; a reward is a finite number"),
        ([float("inf"), 1.0], r"reward\.terms\.said gave inf"),
        (["a", "b"], r"reward\.terms\.said failed \(ValueError: could not convert"),
        (None, r"reward\.terms\.said failed \(TypeError"),
    ],
)
def test_a_term_that_fails_stops_the_run_and_is_named_with_its_episode(
    reward: Callable[..., LikelihoodImprovement],
    make_episode: MakeEpisode,
    answer: object,
    line: str,
) -> None:
    rollouts = [rollout(make_episode("book/7"), plan) for plan in ("Ann pays.", "Bob pays.")]
    with pytest.raises(ValueError, match=f"episode book/7: {line}"):
        reward(WeightedTerm("said", Said(answer)))(rollouts)


def test_a_weight_is_a_finite_number() -> None:
    with pytest.raises(ValueError, match=r"reward\.terms\.raw\.weight must be a finite number"):
        WeightedTerm("raw", Raw(), float("nan"))


def test_a_part_of_a_group_is_refused_where_a_term_compares_it(
    reward: Callable[..., LikelihoodImprovement], make_episode: MakeEpisode
) -> None:
    rollouts = [rollout(make_episode("book/1"), f"Plan {i}.") for i in range(3)]
    comparing = reward(WeightedTerm("rank", Rank()), group_size=4)
    with pytest.raises(
        ValueError,
        match=r"book/1: reward\.terms\.rank compares all 4 attempts .* this process got 3; the "
        "attempts of each process have to be a multiple of 4",
    ):
        comparing(rollouts)
    # What a rule judges belongs to the group as well.
    whole = [*rollouts, rollout(make_episode("book/1"), "", PlanStatus.NO_PLAN)]
    assert comparing(whole)[3].reward == -7
    assert len(reward(WeightedTerm("raw", Raw()), group_size=4)(rollouts)) == 3


def test_only_the_terms_that_compare_attempts_need_groups() -> None:
    terms = [WeightedTerm("place", Rank()), WeightedTerm("raw", Raw())]
    assert group_terms(terms) == ["place"]


def test_the_first_threshold_is_where_a_stepped_term_that_is_paid_begins() -> None:
    steps = WeightedTerm("steps", Tiers())
    late = WeightedTerm("late", Tiers([3.0], [1.0]))
    smooth = WeightedTerm("smooth", Clipped())
    assert first_threshold([smooth, late, steps]) == 0.05
    assert first_threshold([WeightedTerm("steps", Tiers(), 0.0), late]) == 3.0
    assert first_threshold([smooth, WeightedTerm("raw", Raw())]) is None
