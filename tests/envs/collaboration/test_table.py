"""Rounds are asked at once, costs add up by member, and what goes wrong is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from envs.collaboration.cast import Budget, Cast
from envs.collaboration.table import Ask, Play, Table
from envs.types import Conversation, Cost, Episode, Guidance, Message, PlanStatus, Reply, Rollout

MakeEpisode = Callable[..., Episode]


def asked(play: Play, role: str, text: str = "Who owes what?") -> Ask:
    return Ask(play, role, (Message("user", text),))


def rollout_of(play: Play) -> Rollout:
    last = play.turns[-1]
    turns = tuple(play.turns)
    return Rollout(
        play.episode, last.prompt, last.reply, PlanStatus.COMPLETE, Guidance(""), turns, play.events
    )


class Fails:
    """Gives one reply to everything."""

    def __init__(self, reply: Reply) -> None:
        self.given = reply

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [self.given for _ in conversations]


def test_a_round_asks_each_member_once_for_all_plays(
    make_episode: MakeEpisode, speaker: Callable[..., Any]
) -> None:
    policy, ann = speaker("I plan."), speaker("I judge it.")
    table = Table(Cast({"ann": ann}, {"judge": "ann"}), policy, Budget())
    plays = [Play(make_episode(f"book/{n}")) for n in range(3)]
    said = table.round([asked(play, role) for play in plays for role in ("writer", "judge")])
    assert said == ["I plan.", "I judge it."] * 3
    assert [len(batch) for batch in policy.asked] == [3] == [len(batch) for batch in ann.asked]
    assert [(t.role, t.member, t.is_trained) for t in plays[0].turns] == [
        ("writer", "policy", True),
        ("judge", "ann", False),
    ]


def test_costs_are_calls_read_and_generated_tokens_by_member(
    make_episode: MakeEpisode, speaker: Callable[..., Any]
) -> None:
    play = Play(make_episode())
    table = Table(
        Cast({"ann": speaker("I judge it.")}, {"judge": "ann"}), speaker("I plan."), Budget()
    )
    table.round([asked(play, "writer", "Who?")])
    table.round([asked(play, "writer", "Who owes what?"), asked(play, "judge", "Is it good?")])
    # Words: "Who?" and "Who owes what?" read, "I plan." said twice; "Is it good?" read once.
    assert rollout_of(play).costs == {"policy": Cost(2, 4, 4), "ann": Cost(1, 3, 3)}


def test_who_says_nothing_or_too_much_or_fails_is_counted(make_episode: MakeEpisode) -> None:
    play = Play(make_episode())
    for reply in (Reply(" \n"), Reply("And so", truncated=True), Reply("", failure="unreachable")):
        Table(Cast(), Fails(reply), Budget()).round([asked(play, "writer")])
    assert play.events == {"failed/empty": 1, "failed/too_long": 1, "failed/unreachable": 1}


def test_a_member_who_leaves_a_conversation_unanswered_is_named(make_episode: MakeEpisode) -> None:
    class Silent:
        def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
            return [Reply("I judge it.")][: len(conversations) - 1]

    play = Play(make_episode())
    table = Table(Cast({"ann": Silent()}, {"judge": "ann"}), Silent(), Budget())
    with pytest.raises(
        ValueError, match=r"env.cast.members.ann: gave 1 answers to 2 conversations"
    ):
        table.round([asked(play, "judge"), asked(play, "judge")])


def test_beyond_its_budget_a_play_asks_nobody_and_others_go_on(
    make_episode: MakeEpisode, speaker: Callable[..., Any]
) -> None:
    policy = speaker("I plan.")
    table = Table(Cast(), policy, Budget(max_calls=2))
    spent, fresh = Play(make_episode("book/1")), Play(make_episode("book/2"))
    table.round([asked(spent, "writer")] * 3)
    assert table.round([asked(spent, "writer"), asked(fresh, "writer")]) == ["", "I plan."]
    assert spent.events == {"failed/budget": 2} and len(spent.turns) == 2
    assert not fresh.events
    talked = Play(make_episode("book/3"))
    table = Table(Cast(), policy, Budget(max_generated_tokens=3))
    # Two tokens said, then four: only then is the limit of three passed.
    assert [table.round([asked(talked, "writer")]) for _ in range(3)] == [
        ["I plan."],
        ["I plan."],
        [""],
    ]
