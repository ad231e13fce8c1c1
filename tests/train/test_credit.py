"""What a turn contributed: the fixed transcript, scored without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
    scores = reward([play])
    # Without the draft the plan is still good: 5 - 5. Without the verifier there is no refinement,
    # and without the refinement the draft stands: 5 - 2 in both.
    assert turn_credits(env, reward, [play], scores, [[0, 1, 2]]) == [[0.0, 3.0, 3.0]]
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
    assert turn_credits(env, reward, [play], reward([play]), [[0]]) == [[0.0]]


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
    assert turn_credits(env, reward, [play], reward([play]), [[2]]) == [[-6.0]]


def test_in_a_vote_only_the_vote_that_decides_has_credit(
    make_episode: Callable[..., Episode],
) -> None:
    env, reward = Debate(parser=WHOLE, rounds=1), ByPlan()
    said = [("debater_1", "wrong", 1), ("debater_2", "good", 1), ("debater_3", "good", 1)]
    play = played(env, make_episode(), *said)
    assert play.outcome == Guidance("good")
    # Two voices of three carry it; without one of them the first of the two that are left wins.
    # Without debater 1 nothing changes.
    assert turn_credits(env, reward, [play], reward([play]), [[0, 1, 2]]) == [[0.0, 9.0, 9.0]]


def test_whole_groups_are_scored_for_each_place(make_episode: Callable[..., Episode]) -> None:
    env, reward = Feedback(parser=WHOLE), ByPlan()
    plays = [played(env, make_episode(), ("drafter", text, 1)) for text in ("weak", "good")]
    scores = reward(plays)
    assert turn_credits(env, reward, plays, scores, [[0], [0]]) == [[2.0], [5.0]]
    assert reward.calls == [2, 2]
    assert env.rollout_without(plays[0], 0).status is PlanStatus.NO_PLAN


def test_credits_are_compared_within_an_episode_and_a_role() -> None:
    groups = [("book/1", "drafter"), ("book/1", "refiner")] * 2 + [("book/2", "drafter")]
    # Drafters 0 and 4 of the first episode, refiners 9 and 11; the other episode stands alone.
    assert centred_by_role([0.0, 9.0, 4.0, 11.0, 7.0], groups) == pytest.approx(
        [-2.0, -1.0, 2.0, 1.0, 0.0]
    )
