"""Who plays which role, and which casts are refused."""

from __future__ import annotations

import pytest

from envs.collaboration.cast import Cast


def test_roles_without_a_member_are_the_policys_and_learn() -> None:
    cast = Cast({"ann": object()}, {"judge": "ann"})
    assert cast.member_of("judge") == "ann" and not cast.is_trained("judge")
    assert cast.member_of("writer") == "policy" and cast.is_trained("writer")


def test_of_the_policys_roles_only_the_named_ones_learn() -> None:
    cast = Cast(trained=("writer",))
    assert cast.is_trained("writer") and not cast.is_trained("judge")


@pytest.mark.parametrize(
    ("cast", "complaint"),
    [
        (lambda: Cast({}, {"judge": "bob"}), r"env.cast.roles.judge: there is no member 'bob'"),
        (lambda: Cast({"policy": object()}), r"env.cast.members.policy: is the name of"),
        (lambda: Cast({}, {"jury": "policy"}).check(["judge"]), r"no role 'jury'; known: judge"),
        (lambda: Cast(trained=("jury",)).check(["judge"]), r"env.cast.trained: there is no role"),
        (
            lambda: Cast({"ann": object()}, {"judge": "ann"}, ("judge",)).check(["judge"]),
            r"'judge' is played by 'ann', which does not learn",
        ),
    ],
)
def test_a_cast_that_cannot_play_is_refused(cast: object, complaint: str) -> None:
    assert callable(cast)
    with pytest.raises(ValueError, match=complaint):
        cast()
