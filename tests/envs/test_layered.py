"""Layers of agents: who reads whom, who is kept, and how much each mattered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from envs.layered import Layered, passed_back
from envs.plans import PlanParser
from envs.types import Episode, Guidance, Reply, Rollout, Turn

Speaker = Callable[..., Any]
MakeEpisode = Callable[..., Episode]
WHOLE = PlanParser(whole_answer_without_marker=True)
MEASURES = ("importance/agent_1", "importance/agent_2", "importance/agent_3")


def transcript(*layers: tuple[str, ...]) -> list[Turn]:
    """Turns of agents 1, 2, … by layer."""
    return [
        Turn(f"agent_{number}", "policy", (), Reply(text), round=layer)
        for layer, texts in enumerate(layers, start=1)
        for number, text in enumerate(texts, start=1)
    ]


def test_shares_go_back_by_ratings() -> None:
    # Reader one has 3/4 and rates 1 : 3, reader two has 1/4 and rates nobody.
    assert passed_back([0.75, 0.25], [[1.0, 3.0], [0.0, 0.0]]) == pytest.approx(
        [0.75 * 0.25 + 0.25 * 0.5, 0.75 * 0.75 + 0.25 * 0.5]
    )


def test_importance_goes_to_those_whose_words_were_taken_up() -> None:
    env = Layered(parser=WHOLE, width=2, layers=2)
    # Both end with agent 2's plan; of agent 1's words they share none.
    turns = transcript(("Cid runs", "Ann pays"), ("Ann pays", "Ann pays"))
    assert env.importance(turns) == {"agent_1": 0.5, "agent_2": 1.5}
    # Each layer's shares sum to 1.
    mixed = transcript(("Cid pays", "Ann pays"), ("Ann pays", "Cid runs"), ("Ann pays", "Bob"))
    assert sum(env.importance(mixed).values()) == pytest.approx(3.0)


def test_numbers_in_an_answer_are_ratings() -> None:
    env = Layered(parser=WHOLE, width=2, layers=2, rated_by="numbers")
    turns = transcript(("Cid runs", "Ann pays"), ("Ann. 1: 1, agent 2: 3", "Bob. 1: 0, 2: 5"))
    # The first of the last layer is chosen; it gives a quarter and three quarters.
    assert env.importance(turns) == {"agent_1": 1.25, "agent_2": 0.75}


def played(env: Layered, episode: Episode, policy: Any) -> Rollout:
    (rollout,) = env.play([episode], policy)
    return rollout


def by_turn(*texts: str) -> Callable[[str], str]:
    said = iter(texts)
    return lambda _: next(said)


def test_from_the_third_layer_on_the_best_rated_agents_speak(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    said = (*("Cid runs", "Ann pays", "Bob pays", "Bob pays", "Ann pays", "Bob waits", "x", "y"),)
    env = Layered(parser=WHOLE, layers=3)
    rollout = played(env, make_episode(), speaker(by=by_turn(*said)))
    # Agent 1's first plan was taken up by nobody.
    assert [t.role for t in rollout.turns if t.round == 3] == ["agent_2", "agent_3"]
    assert rollout.events == {"ended/layers": 1}
    asked = rollout.turns[3].prompt[-1].content
    assert "## Plan of agent 1\nCid runs" in asked and "## Plan of agent 3\nBob pays" in asked
    assert env.most_trained_turns == 3 + 3 + 2


def test_layers_end_when_more_than_two_thirds_agree(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Layered(parser=WHOLE)
    rollout = played(env, make_episode(), speaker("Ann pays."))
    assert len(rollout.turns) == 3 and rollout.events == {"ended/agreement": 1}
    assert rollout.outcome == Guidance("Ann pays.")
    # Two of three are not more than two thirds; and silence is no agreement.
    two = played(env, make_episode(), speaker(by=by_turn("a", "a", "b", *["c"] * 3)))
    assert len(two.turns) == 6
    mute = played(env, make_episode(), speaker(""))
    assert mute.events == {"failed/empty": 8, "ended/layers": 1}


def test_an_agent_that_gives_no_numbers_is_counted(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    said = by_turn("a", "b", "c", "d 1: 5", "e 1: 2 2: 4", "f", "g", "h")
    env = Layered(parser=WHOLE, rated_by="numbers")
    rollout = played(env, make_episode(), speaker(by=said))
    assert rollout.events == {"failed/rating": 1, "ended/layers": 1}
    # Agent 1 has seven of five and two, agent 2 four, agent 3 none.
    assert [t.role for t in rollout.turns if t.round == 3] == ["agent_1", "agent_2"]


def test_a_play_tells_the_importance_of_its_agents(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    rollout = played(Layered(parser=WHOLE, layers=1), make_episode(), speaker("Ann pays."))
    assert rollout.measures == pytest.approx(dict.fromkeys(MEASURES, 1 / 3))
