"""What a turn contributed: the fixed transcript, scored without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from envs.debate import Debate
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout, Turn
from rewards.types import Score
from train.credit import centred_by_role, turn_credits

WHOLE = PlanParser(whole_answer_without_marker=True)
# What each plan is worth.
WORTH = {"": 0.0, "weak": 2.0, "good": 5.0, "wrong": -4.0}


class ByPlan:
    """Pays what the plan says, and keeps how many plays it saw at a time."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        self.calls.append(len(rollouts))
        return [
            Score(r.episode.episode_id, WORTH[r.outcome.plan], None, None, None) for r in rollouts
        ]


def credits(env: Feedback | Debate, reward: ByPlan, *plays: Rollout, at: list[int]) -> list[Any]:
    """Of each play, what its turns at these places contributed."""
    scores = reward(plays)
    found = turn_credits(env, reward, plays, scores, [at] * len(plays))
    return [[credit.reward for credit in own] for own in found]


def played(env: Feedback | Debate, episode: Episode, *said: tuple[str, str, int]) -> Rollout:
    """A play from (role, text, round)."""
    turns = tuple(
        Turn(role, "policy", (), Reply(text), is_trained=True, round=number)
        for role, text, number in said
    )
    plan, status = env.read(turns)
    return Rollout(episode, (), turns[-1].reply, status, Guidance(plan), turns)


def test_a_draft_that_was_refined_is_worth_nothing_and_the_refinement_what_it_added(
    make_episode: Callable[..., Episode],
) -> None:
    env, reward = Feedback(parser=WHOLE), ByPlan()
    play = played(
        env,
        make_episode(),
        ("drafter", "weak", 1),
        ("verifier", "Whose ring is it?", 2),
        ("refiner", "good", 3),
    )
    # Without the draft the plan is still good: 5 - 5. Without the verifier there is no refinement,
    # and without the refinement the draft stands: 5 - 2 in both.
    assert credits(env, reward, play, at=[0, 1, 2]) == [[0.0, 3.0, 3.0]]
    assert reward.calls == [1, 1, 1, 1]


def test_a_turn_that_changes_nothing_is_worth_exactly_nothing_however_scores_round(
    make_episode: Callable[..., Episode],
) -> None:
    class Rounding(ByPlan):
        """A reward whose last digits depend on the call."""

        def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
            exact = super().__call__(rollouts)
            return [replace(score, reward=score.reward + 1e-6 * len(self.calls)) for score in exact]

    env, reward = Feedback(parser=WHOLE), Rounding()
    play = played(env, make_episode(), ("drafter", "weak", 1), ("refiner", "good", 2))
    assert credits(env, reward, play, at=[0]) == [[0.0]]


def test_a_refinement_that_spoils_a_draft_has_negative_credit(
    make_episode: Callable[..., Episode],
) -> None:
    env, reward = Feedback(parser=WHOLE), ByPlan()
    play = played(
        env,
        make_episode(),
        ("drafter", "weak", 1),
        ("verifier", "No.", 2),
        ("refiner", "wrong", 3),
    )
    # -4 with it, 2 without.
    assert credits(env, reward, play, at=[2]) == [[-6.0]]


def test_in_a_vote_only_the_vote_that_decides_has_credit(
    make_episode: Callable[..., Episode],
) -> None:
    env, reward = Debate(parser=WHOLE, rounds=1), ByPlan()
    said = [("debater_1", "wrong", 1), ("debater_2", "good", 1), ("debater_3", "good", 1)]
    play = played(env, make_episode(), *said)
    assert play.outcome == Guidance("good")
    # Two voices of three carry it; without one of them the first of the two that are left wins.
    # Without debater 1 nothing changes.
    assert credits(env, reward, play, at=[0, 1, 2]) == [[0.0, 9.0, 9.0]]


def test_whole_groups_are_scored_for_each_place(make_episode: Callable[..., Episode]) -> None:
    env, reward = Feedback(parser=WHOLE), ByPlan()
    plays = [played(env, make_episode(), ("drafter", text, 1)) for text in ("weak", "good")]
    assert credits(env, reward, *plays, at=[0]) == [[2.0], [5.0]]
    assert reward.calls == [2, 2]
    assert env.rollout_without(plays[0], 0).status is PlanStatus.NO_PLAN


def worth(*rewards: float, improvements: Sequence[float] | None = None) -> list[Score]:
    """Credits, by default of a reward that is the improvement."""
    return [
        Score("book/1", reward, improvement, None, None)
        for reward, improvement in zip(rewards, improvements or rewards, strict=True)
    ]


def test_credits_are_compared_within_an_episode_and_a_role() -> None:
    groups = [("book/1", "drafter"), ("book/1", "refiner")] * 2 + [("book/2", "drafter")]
    # Drafters 0 and 4 of the first episode, refiners 9 and 11; the other episode stands alone.
    found = centred_by_role(worth(0.0, 9.0, 4.0, 11.0, 7.0), groups, noise=0.0)
    assert found == pytest.approx([-2.0, -1.0, 2.0, 1.0, 0.0])


def test_credits_that_differ_by_rounding_alone_are_levelled() -> None:
    groups = [("book/1", "drafter"), ("book/1", "refiner")] * 2
    # Tiers of 0.5 and 0.9 on two sides of a threshold; two scores of 0.01 points of noise each.
    credits = worth(0.5, 0.5, 0.9, 0.9, improvements=[0.99, 0.99, 1.009, 1.02])
    found = centred_by_role(credits, groups, noise=0.01)
    assert found == pytest.approx([0.0, -0.2, 0.0, 0.2])


def test_what_a_rule_fixes_is_no_rounding(make_episode: Callable[..., Episode]) -> None:
    class ByRule(ByPlan):
        """Nothing said is worth a fixed -4, and every plan an improvement of 0."""

        def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
            return [
                replace(s, improvement=0.0, reward=0.0) if r.outcome.plan else replace(s, reward=-4)
                for r, s in zip(rollouts, super().__call__(rollouts), strict=True)
            ]

    env, reward = Feedback(parser=WHOLE), ByRule()
    # Without its draft the first play has no plan, the second one has the refiner's.
    alone = played(env, make_episode(), ("drafter", "weak", 1))
    refined = played(env, make_episode(), ("drafter", "weak", 1), ("refiner", "good", 3))
    plays = [alone, refined]
    (first,), (second,) = turn_credits(env, reward, plays, reward(plays), [[0], [0]])
    assert centred_by_role([first, second], [("book/1", "drafter")] * 2, noise=1.0) == [2.0, -2.0]
