"""Self-consistency: one planner asked several times, and the plan that agrees most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from envs.collaboration.cast import Budget
from envs.plans import PlanParser
from envs.self_consistency import SelfConsistency
from envs.solo import SoloPlanner
from envs.types import Conversation, Cost, Episode, Guidance, PlanStatus, Reply, Usage

Speaker = Callable[..., Any]
MakeEpisode = Callable[..., Episode]
WHOLE = PlanParser(whole_answer_without_marker=True)


class Counter:
    """Says a number that rises with every answer, each time in ten tokens."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._next = count()

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        self.asked.append(len(conversations))
        return [Reply(f"Plan {next(self._next)}", usage=Usage(5, 10)) for _ in conversations]


def test_the_plan_that_most_samples_repeat_is_taken(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    policy = speaker("Cid runs.", "Ann pays.", "Bob sings.", "Ann pays!", "Cid walks.")
    (rollout,) = SelfConsistency(parser=WHOLE).play([make_episode()], policy)
    assert rollout.outcome == Guidance("Ann pays.")
    assert [turn.round for turn in rollout.turns] == [1] * 5
    assert len({turn.prompt for turn in rollout.turns}) == 1


def test_a_sample_without_a_plan_has_no_vote(make_episode: MakeEpisode, speaker: Speaker) -> None:
    env = SelfConsistency(num_samples=3)
    (rollout,) = env.play([make_episode()], speaker("Hm.", "Hm.", "In summary: Ann pays."))
    assert (rollout.outcome, rollout.status) == (Guidance("Ann pays."), PlanStatus.COMPLETE)


def test_one_sample_is_the_planner_alone(make_episode: MakeEpisode, speaker: Speaker) -> None:
    episode, said = make_episode(), "In summary: Ann pays."
    (alone,) = SoloPlanner().play([episode], speaker(said))
    (rollout,) = SelfConsistency(num_samples=1).play([episode], speaker(said))
    assert (rollout.outcome, rollout.turns[0].prompt) == (alone.outcome, alone.turns[0].prompt)


def test_samples_are_drawn_until_they_have_as_many_tokens_as_were_asked_for(
    make_episode: MakeEpisode,
) -> None:
    policy, episodes = Counter(), [make_episode(f"book/{n}") for n in range(4)]
    env = SelfConsistency(parser=WHOLE)
    rollouts = env.play_within(episodes, policy, [30, 31, 0, 10])
    # Ten tokens each: 31 take four samples, and no play has none.
    assert [r.costs["policy"] for r in rollouts] == [
        Cost(3, 15, 30),
        Cost(4, 20, 40),
        Cost(1, 5, 10),
        Cost(1, 5, 10),
    ]
    assert policy.asked == [4, 2, 2, 1]


def test_more_samples_than_the_budget_allows_are_not_drawn_and_that_is_counted(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = SelfConsistency(parser=WHOLE, budget=Budget(max_calls=3))
    (rollout,) = env.play_within([make_episode()], speaker(""), [100])
    assert rollout.events == {"failed/empty": 3, "failed/budget": 1, "failed/vote": 3}
    assert (rollout.outcome, rollout.status) == (Guidance(""), PlanStatus.NO_PLAN)
