"""What gives way where context, plan and chapter together are longer than the generator reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerBase

from envs.prompts import Prompts
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.types import ScoreRequest
from rewards.window import GivesWay, Window

PLANS = ("", "Ann pays.", "Ann goes to the mill. She pays what she owes, and more.")
MAX_PLAN_TOKENS = 24


@pytest.fixture
def laid_out(
    tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode]
) -> Callable[..., list[ScoreRequest]]:
    """The requests for `PLANS` under a window that lacks `missing` tokens for the longest plan."""

    def make(gives_way: GivesWay, missing: int) -> list[ScoreRequest]:
        roomy = GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=MAX_PLAN_TOKENS)
        without = roomy.request(make_episode())
        window = without.num_tokens + MAX_PLAN_TOKENS - missing
        tight = GeneratorEncoder(
            tokenizer, Prompts(), None, MAX_PLAN_TOKENS, None, window, gives_way
        )
        requests = [tight.request(make_episode(), plan) for plan in PLANS]
        assert all(r.num_tokens <= window for r in requests) or gives_way == "nothing"
        cuts = [tight.cut(make_episode(), plan) for plan in PLANS]
        if missing and gives_way != "nothing":
            assert gives_way in cuts[-1]
        return requests

    return make


def test_a_plan_that_does_not_fit_loses_its_end_and_nothing_else_changes(
    laid_out: Callable[..., list[ScoreRequest]],
) -> None:
    roomy, tight = laid_out("plan", 0), laid_out("plan", 5)
    assert tight[:2] == roomy[:2]
    closing = roomy[0].guidance_ids
    assert tight[2].guidance_ids == roomy[2].guidance_ids[: MAX_PLAN_TOKENS - 5] + closing
    assert (tight[2].prefix_ids, tight[2].gold_ids) == (roomy[2].prefix_ids, roomy[2].gold_ids)


def test_a_context_gives_way_by_its_beginning_alike_for_every_plan(
    laid_out: Callable[..., list[ScoreRequest]],
) -> None:
    roomy, tight = laid_out("context", 0), laid_out("context", 5)
    assert len({r.prefix_ids for r in tight}) == 1
    assert len(tight[0].prefix_ids) == len(roomy[0].prefix_ids) - 5
    assert tight[0].prefix_ids[-3:] == roomy[0].prefix_ids[-3:]
    assert [r.guidance_ids for r in tight] == [r.guidance_ids for r in roomy]
    assert [r.gold_ids for r in tight] == [r.gold_ids for r in roomy]


def test_a_chapter_gives_way_by_its_end_alike_for_every_plan(
    laid_out: Callable[..., list[ScoreRequest]],
) -> None:
    roomy, tight = laid_out("gold", 0), laid_out("gold", 5)
    assert {r.gold_ids for r in tight} == {roomy[0].gold_ids[:-5]}
    assert [r.guidance_ids for r in tight] == [r.guidance_ids for r in roomy]
    assert [r.prefix_ids for r in tight] == [r.prefix_ids for r in roomy]


def test_where_nothing_gives_way_nothing_is_cut(
    laid_out: Callable[..., list[ScoreRequest]],
) -> None:
    assert laid_out("nothing", 5) == laid_out("nothing", 0)


def test_a_part_has_the_room_that_the_others_leave() -> None:
    assert Window(100, "plan").room("plan", 90) == 10
    assert Window(100, "plan").room("plan", 120) == 0
    assert Window(100, "context", 8).room("context", 60) == 32
    assert Window(100, "context", 8).room("plan", 60) is None
    assert Window(None, "plan").room("plan", 60) is None


@pytest.mark.parametrize("gives_way", ["context", "gold"])
def test_room_for_the_longest_plan_needs_its_length(gives_way: GivesWay) -> None:
    with pytest.raises(ValueError, match=r"generator\.gives_way: .*generator\.max_plan_tokens"):
        Window(100, gives_way)


def test_the_log_says_what_gives_way() -> None:
    assert str(Window(4096, "plan")) == (
        "generator's window: 4096 tokens; where a plan does not fit, the plan loses its end "
        "(generator.gives_way=plan)"
    )
    assert str(Window()) == "generator's window: any number of tokens"
