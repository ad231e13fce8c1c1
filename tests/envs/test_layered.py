"""Layers of agents: who reads whom, who is kept, and how much each mattered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    turns = transcript(("Cid runs", "Ann pays"), ("1: 1, agent 2: 3\nAnn.", "1: 0\n2: 5\nBob."))
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
    assert mute.events == {
        "failed/empty": 8,
        "ended/layers": 1,
        "failed/vote": 2,
        "failed/last_layer": 1,
    }


def test_an_agent_that_gives_no_numbers_is_counted(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    said = ("a", "b", "c", "1: 5\nd", "1: 2\n2: 4\ne", "f", "g", "1: 0\nh")
    env = Layered(parser=WHOLE, rated_by="numbers")
    rollout = played(env, make_episode(), speaker(by=by_turn(*said)))
    # One of the three readers of the first layer, and one of the two of the second.
    assert rollout.events == {"failed/rating": 2, "ended/layers": 1}
    # Agent 1 has seven of five and two, agent 2 four, agent 3 none.
    assert [t.role for t in rollout.turns if t.round == 3] == ["agent_1", "agent_2"]
    # With two layers the last one rates as well; nobody is asked for numbers otherwise.
    two = replace(env, layers=2)
    assert played(two, make_episode(), speaker(by=by_turn(*said))).events["failed/rating"] == 1
    words = replace(two, rated_by="agreement")
    assert played(words, make_episode(), speaker(by=by_turn(*said))).events == {"ended/layers": 1}


@pytest.mark.parametrize(
    ("said", "importance"),
    [
        ("2: 4", {"agent_1": 0.0, "agent_2": 1.0}),
        ("**Agent 2**: 4/5.", {"agent_1": 0.0, "agent_2": 1.0}),
        ("- agent_1 = 1; agent_2 = 3", {"agent_1": 0.25, "agent_2": 0.75}),
        # Agent 3 was not there to be read.
        ("1: 2\n2: 2\n3: 5", {"agent_1": 0.5, "agent_2": 0.5}),
        # None of these is a rating of an agent who was read; both plans share no word with them.
        ("They meet at 1:3", None),
        ("Chapter 2: 4 riders come.", None),
        ("At 2: 4 of them ride.", None),
        ("2:30", None),
        ("2: 4.5", None),
        ("2: 40", None),
        ("3: 5", None),
        ("12: 5", None),
    ],
)
def test_a_rating_stands_on_a_line_of_its_own_and_is_of_an_agent_that_was_read(
    said: str, importance: dict[str, float] | None
) -> None:
    env = Layered(parser=WHOLE, width=2, layers=2, rated_by="numbers")
    turns = transcript(("Cid runs", "Ann pays"), (f"Bob rests.\n{said}",))
    assert env.fallbacks(turns).get("failed/rating") == (importance is None)
    # The one reader of the last layer is agent 1, and keeps what is its own there.
    found = env.importance(turns)
    shares = importance or {"agent_1": 0.5, "agent_2": 0.5}
    assert found == {"agent_1": 1 + shares["agent_1"], "agent_2": shares["agent_2"]}


def test_a_last_layer_without_a_plan_is_counted_and_an_earlier_plan_stands_in(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    said = ("In summary: Ann pays.", "Hm.", "In summary: Bob runs.", "Hm.", "Hm.", "Hm.")
    rollout = played(Layered(layers=2), make_episode(), speaker(by=by_turn(*said)))
    assert rollout.outcome == Guidance("Bob runs.")
    assert rollout.events["failed/last_layer"] == 1 and rollout.events["failed/vote"] == 3
    one = played(
        Layered(layers=1), make_episode(), speaker(by=by_turn("In summary: Ann.", "Hm.", "So."))
    )
    assert one.events == {"ended/layers": 1, "failed/vote": 2}


def test_a_plan_that_was_cut_for_its_readers_is_whole_in_the_importance_of_who_made_it() -> None:
    env = Layered(parser=WHOLE, width=2, layers=1, max_note_words=2)
    turns = transcript(("Ann pays Bob today", "Cid runs"))
    assert env.importance(turns) == {"agent_1": 1.0, "agent_2": 0.0}


def test_a_play_tells_the_importance_of_its_agents(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    rollout = played(Layered(parser=WHOLE, layers=1), make_episode(), speaker("Ann pays."))
    assert rollout.measures == pytest.approx(dict.fromkeys(MEASURES, 1 / 3))
