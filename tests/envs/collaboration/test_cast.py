"""Who plays which role, and which casts are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from envs.collaboration.cast import Cast
from envs.types import Conversation, Reply


class Silent:
    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply("") for _ in conversations]


SILENT = Silent()


def test_roles_without_a_member_are_the_policys_and_learn() -> None:
    cast = Cast({"ann": SILENT}, {"judge": "ann"})
    assert cast.member_of("judge") == "ann" and not cast.is_trained("judge")
    assert cast.member_of("writer") == "policy" and cast.is_trained("writer")


def test_of_the_policys_roles_only_the_named_ones_learn() -> None:
    cast = Cast(trained=("writer",))
    assert cast.is_trained("writer") and not cast.is_trained("judge")


@pytest.mark.parametrize(
    ("cast", "complaint"),
    [
        (lambda: Cast({"ann": "ann"}), r"env.cast.members.ann: should be an agent"),
        (lambda: Cast({}, {"judge": "bob"}), r"env.cast.roles.judge: there is no member 'bob'"),
        (lambda: Cast({"policy": SILENT}), r"env.cast.members.policy: is the name of"),
        (lambda: Cast({}, {"jury": "policy"}).check(["judge"]), r"no role 'jury'; known: judge"),
        (lambda: Cast(trained=("jury",)).check(["judge"]), r"env.cast.trained: there is no role"),
        (
            lambda: Cast({"ann": SILENT}, {"judge": "ann"}, ("judge",)).check(["judge"]),
            r"'judge' is played by 'ann', which does not learn",
        ),
    ],
)
def test_a_cast_that_cannot_play_is_refused(cast: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        cast()
