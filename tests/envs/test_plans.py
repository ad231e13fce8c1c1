"""What is read as the plan of an answer, and how one agent plays a batch of episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.solo import SoloPlanner
from envs.types import Conversation, Episode, Guidance, PlanStatus, Reply


class Parrot:
    """An agent that ends every answer with the number of its conversation in the batch."""

    def __init__(self) -> None:
        self.heard: list[Conversation] = []

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        self.heard.extend(conversations)
        return [Reply(f"Hm. In summary: plan {i}") for i in range(len(conversations))]


@pytest.mark.parametrize(
    ("answer", "plan", "status"),
    [
        (Reply("She owes. In summary: She pays."), "She pays.", PlanStatus.COMPLETE),
        (Reply("In summary: A. No. In summary: B."), "B.", PlanStatus.COMPLETE),
        (Reply("In summary: She pa", truncated=True), "She pa", PlanStatus.TRUNCATED),
        (Reply("She pays."), "", PlanStatus.NO_PLAN),
        (Reply("She pays.", truncated=True), "", PlanStatus.NO_PLAN),
        (Reply("She pays. In summary: \n "), "", PlanStatus.NO_PLAN),
        (Reply("in summary: She pays."), "", PlanStatus.NO_PLAN),
        (Reply(""), "", PlanStatus.NO_PLAN),
    ],
)
def test_the_plan_is_what_follows_the_last_marker(
    answer: Reply, plan: str, status: PlanStatus
) -> None:
    assert PlanParser("In summary:").parse(answer) == (plan, status)


@pytest.mark.parametrize(
    ("answer", "plan", "status"),
    [
        (Reply(" She pays. "), "She pays.", PlanStatus.COMPLETE),
        (Reply("She pa", truncated=True), "She pa", PlanStatus.TRUNCATED),
        (Reply("Hm. In summary: She pays."), "She pays.", PlanStatus.COMPLETE),
        (Reply("Hm. In summary:"), "", PlanStatus.NO_PLAN),
        (Reply(" \n"), "", PlanStatus.NO_PLAN),
    ],
)
def test_by_the_published_rule_an_answer_without_a_marker_is_a_plan_as_a_whole(
    answer: Reply, plan: str, status: PlanStatus
) -> None:
    parser = PlanParser("In summary:", whole_answer_without_marker=True)
    assert parser.parse(answer) == (plan, status)


def test_a_play_asks_once_for_all_episodes_and_keeps_each_answer_with_its_own(
    make_episode: Callable[..., Episode],
) -> None:
    episodes = [make_episode(f"book/{i}", known=f"Day {i}.") for i in (1, 2)]
    env, parrot = SoloPlanner(Prompts(plan_task="What next?")), Parrot()
    rollouts = env.play(episodes, parrot)
    assert [r.outcome for r in rollouts] == [Guidance("plan 0"), Guidance("plan 1")]
    assert [r.episode for r in rollouts] == episodes
    assert [r.prompt for r in rollouts] == parrot.heard
    assert [c[-1].content for c in parrot.heard] == [
        "## So far\nDay 1.\n\nWhat next?",
        "## So far\nDay 2.\n\nWhat next?",
    ]


def test_the_halves_of_a_play_are_the_play(make_episode: Callable[..., Episode]) -> None:
    episode, env = make_episode(), SoloPlanner()
    reply = Parrot().reply([env.ask(episode)])[0]
    assert env.play([episode], Parrot()) == [env.conclude(episode, reply)]
