"""Position bias: the first text's share, and what both orders say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from train.judging.judgments import OVERALL, TIE, Judgment, cast_votes
from train.judging.position import position_bias

MakeJudgment = Callable[..., Judgment]


def test_the_first_text_won_three_of_four(make_judgment: MakeJudgment) -> None:
    looks = [
        *(make_judgment("good", f"{n}", first="good") for n in range(3)),
        make_judgment("good", "3", first="bad"),
        make_judgment(TIE, "4", first="bad"),
        make_judgment("good", "5"),
    ]
    found = position_bias(looks, OVERALL)
    assert (found.first_won, found.second_won, found.num_unknown) == (3, 1, 1)
    assert found.as_json()["share_first"] == 0.75
    assert not any(found.in_both_orders.values())


@pytest.mark.parametrize(
    ("good_first", "bad_first", "outcome", "vote"),
    [
        ("good", "good", "same_option", "good"),
        ("good", "bad", "first_text", TIE),
        ("bad", "good", "second_text", TIE),
        (TIE, TIE, "tie", TIE),
        ("good", TIE, "tie_once", TIE),
        ("good", "refused", None, None),
        ("unclear", "unclear", None, None),
    ],
)
def test_two_orders_are_one_vote(
    make_judgment: MakeJudgment,
    good_first: str,
    bad_first: str,
    outcome: str | None,
    vote: str | None,
) -> None:
    looks = [
        make_judgment(good_first, annotator="judge", first="good"),
        make_judgment(bad_first, annotator="judge", first="bad"),
    ]
    for order in (looks, looks[::-1]):
        (cast,) = cast_votes(order, OVERALL)
        assert cast.winner == vote
        both = position_bias(order, OVERALL).in_both_orders
        assert {name for name, count in both.items() if count} == ({outcome} if outcome else set())


def test_who_did_not_sign_is_not_taken_for_one_person(make_judgment: MakeJudgment) -> None:
    looks = [make_judgment("good"), make_judgment("bad")]
    assert [vote.winner for vote in cast_votes(looks, OVERALL)] == ["good", "bad"]
