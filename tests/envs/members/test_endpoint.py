"""An endpoint against a real HTTP server that is quick, slow, busy, wrong, or not there."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from envs.collaboration.cast import Budget, Cast
from envs.collaboration.table import Ask, Play, Table
from envs.members.answers import asked_wait_s
from envs.members.endpoint import Endpoint
from envs.members.ledger import Prices
from envs.sampling import Sampling
from envs.types import Cost, Episode, Message, Reply, Usage

KEY = "sk-a-secret-of-the-test"
ASK = (Message("system", "You plan."), Message("user", "Ann owes Bob."))
# Of `ASK`, 22 bytes in two messages: at most 22 + 2 * 64 tokens.
MOST_READ = 150
PRICES = Prices(read=1000.0, generated=10_000.0)
SHORT = Sampling(max_new_tokens=10)


def said(text: Any, finish: str = "stop", **others: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], **others}).encode()


def endpoint(server: Any, **fields: Any) -> Endpoint:
    return Endpoint(server.url, "small", **{"backoff_s": 0.01, "timeout_s": 5.0, **fields})


def test_answers_come_in_order_with_their_usage_and_what_was_cut(serve: Any) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        number = int(request["messages"][-1]["content"])
        # The first asked is the last answered.
        time.sleep(0.05 * (3 - number))
        usage = {"prompt_tokens": 10 + number, "completion_tokens": number}
        finish = "length" if number == 2 else "stop"
        return 200, said(f"Plan {number}.", finish, usage=usage), {}

    server = serve(handle)
    agent = endpoint(
        server,
        sampling=Sampling(max_new_tokens=7, temperature=0.5),
        prices=Prices(read=1000.0, generated=10_000.0),
    )
    replies = agent.reply([(Message("user", str(n)),) for n in range(3)])
    assert replies == [Reply("Plan 0."), Reply("Plan 1."), Reply("Plan 2.", truncated=True)]
    # 10, 11 + 10 and 12 + 20 thousandths.
    assert [r.usage for r in replies] == [
        Usage(10, 0, 0.01),
        Usage(11, 1, 0.021),
        Usage(12, 2, 0.032),
    ]
    # 33 tokens read at 1000 and 3 generated at 10000 a million.
    assert agent.ledger.cost == pytest.approx(0.033 + 0.03)
    assert (agent.ledger.requests, agent.ledger.answers, agent.ledger.unmetered) == (3, 3, 0)
    request = server.asked[0]
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("small", 7, 0.5)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_busy_server_is_asked_again_with_growing_waits(serve: Any, status: int) -> None:
    times: list[float] = []

    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        return (200, said("At last."), {}) if len(times) == 4 else (status, b"busy", {})

    agent = endpoint(serve(handle), backoff_s=0.05)
    assert agent.reply([ASK]) == [Reply("At last.")]
    first, second, third = (b - a for a, b in pairwise(times))
    assert first >= 0.05 and second >= 0.1 and third >= 0.2
    # A server that was too busy to answer charges nothing.
    assert (agent.ledger.requests, agent.ledger.retries, agent.ledger.unmetered) == (4, 3, 1)


def test_the_servers_own_wait_is_kept_but_no_longer_than_allowed(serve: Any) -> None:
    times: list[float] = []

    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        wait = {1: "0.3", 2: "3600"}.get(len(times))
        return (429, b"", {"Retry-After": wait}) if wait else (200, said("Now."), {})

    assert endpoint(serve(handle), max_wait_s=0.5).reply([ASK]) == [Reply("Now.")]
    assert 0.3 <= times[1] - times[0] < 0.5 <= times[2] - times[1] < 5


def test_the_servers_own_wait_may_be_a_date(serve: Any) -> None:
    times: list[float] = []
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        return (
            (503, b"", {"Retry-After": in_an_hour}) if len(times) == 1 else (200, said("Now."), {})
        )

    assert endpoint(serve(handle), max_wait_s=0.3).reply([ASK]) == [Reply("Now.")]
    assert 0.3 <= times[1] - times[0] < 5
    assert 3590 < asked_wait_s(in_an_hour) <= 3600
    # A date whose zone is not known is one of UTC.
    assert 3590 < asked_wait_s(in_an_hour.replace("GMT", "-0000")) <= 3600


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "soon", "-3", "nan", "Sun, 06 Nov 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 99999 08:49:37 GMT", "Sun, 06 Nov 2094 08:49:99 GMT"),
    ],
)
def test_a_wait_that_has_passed_or_means_nothing_is_none(header: str | None) -> None:
    assert asked_wait_s(header) == 0.0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        said(["no", "text"]),
        said("x", usage="?")[:-5],
    ],
)
def test_rubbish_is_tried_again_and_then_counted(serve: Any, body: bytes) -> None:
    agent = endpoint(serve(lambda *_: (200, body, {})), max_retries=1)
    assert agent.reply([ASK]) == [Reply("", failure="rubbish")]
    assert agent.ledger.requests == 2 and agent.ledger.failures == {"rubbish": 1}
    assert (agent.ledger.answers, agent.ledger.rejected, agent.ledger.unmetered) == (0, 2, 2)


def test_what_a_server_counts_for_rubbish_is_paid(serve: Any) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    bodies = [said(None, usage=usage).replace(b"content", b"nothing"), said("Plan.", usage=usage)]
    server = serve(lambda server, _: (200, bodies[len(server.asked) - 1], {}))
    agent = endpoint(server, prices=Prices(read=1000.0, generated=10_000.0))
    (reply,) = agent.reply([ASK])
    # Twice 10 tokens read and 3 generated, at 1000 and 10000 a million.
    assert reply.usage == Usage(20, 6, pytest.approx(0.08))
    assert (agent.ledger.rejected, agent.ledger.unmetered, agent.ledger.retries) == (1, 0, 1)
    assert agent.ledger.money == pytest.approx(0.08)
    assert agent.ledger.estimated_money == 0


def test_rubbish_that_is_paid_ends_at_the_limit(serve: Any) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    server = serve(lambda *_: (200, said(7, usage=usage), {}))
    agent = endpoint(server, prices=Prices(read=1000.0), max_cost=2.1, max_retries=9)
    assert agent.reply([ASK]) == [Reply("", failure="cost")]
    assert len(server.asked) == 2 and agent.ledger.failures == {"cost": 1}


def test_half_a_character_is_no_part_of_an_answer(serve: Any) -> None:
    server = serve(lambda *_: (200, said("A plan \ud83d"), {}))
    assert endpoint(server).reply([ASK]) == [Reply("A plan ?")]


def test_too_much_is_rubbish_and_nothing_is_an_empty_answer(serve: Any) -> None:
    huge = serve(lambda *_: (200, said("x" * (9 * 2**20)), {}))
    assert endpoint(huge, max_retries=0).reply([ASK]) == [Reply("", failure="rubbish")]
    empty = serve(lambda *_: (200, said(None), {}))
    assert endpoint(empty).reply([ASK]) == [Reply("")]


def test_a_slow_server_is_given_up_in_time(serve: Any) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(1.0)
        return 200, said("Too late."), {}

    started = time.monotonic()
    agent = endpoint(serve(handle), timeout_s=0.2, max_retries=1)
    assert agent.reply([ASK]) == [Reply("", failure="slow")]
    assert time.monotonic() - started < 1.0
    # Both may have to be paid; no play has heard anything of them.
    assert (agent.ledger.unmetered, agent.ledger.estimated_read_tokens) == (2, 2 * MOST_READ)


def test_an_answer_that_is_lost_on_the_way_may_have_to_be_paid(serve: Any) -> None:
    server = serve(lambda *_: (200, said("Plan."), {"Content-Encoding": "gzip"}))
    agent = endpoint(server, prices=PRICES, sampling=SHORT, max_cost=0.6)
    # A quarter each, so that a third would be too much.
    (reply,) = agent.reply([ASK])
    assert (reply.failure, reply.usage, len(server.asked)) == ("cost", Usage(), 2)
    assert agent.ledger.estimated_money == pytest.approx(0.5)


def test_a_server_that_is_down_is_a_failure_and_many_in_a_row_are_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    agent = Endpoint(url, "small", max_retries=1, backoff_s=0.01, max_failures=3)
    assert agent.reply([ASK] * 2) == [Reply("", failure="unreachable")] * 2
    assert agent.ledger.unmetered == 0 and agent.ledger.retries == 2
    # The third, though it is asked alone.
    with pytest.raises(OSError, match=r"3 conversations in a row have no answer.*unreachable"):
        agent.reply([ASK])


def test_what_is_not_asked_for_want_of_money_says_nothing_of_the_server(serve: Any) -> None:
    server = serve(lambda *_: (503, b"busy", {}))
    agent = endpoint(
        server, prices=PRICES, sampling=SHORT, max_cost=0.3, max_retries=0, max_failures=2
    )
    long = (Message("user", "Say where. " * 1000),)
    failures = [reply.failure for reply in agent.reply([long] * 3 + [ASK])]
    assert failures == ["cost"] * 3 + ["busy"]
    with pytest.raises(OSError, match="2 conversations in a row have no answer"):
        agent.reply([ASK])


def test_no_more_requests_are_under_way_than_allowed(serve: Any) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.03)
        return 200, said("Plan."), {}

    server = serve(handle)
    endpoint(server, concurrency=3).reply([ASK] * 12)
    assert server.most_at_once <= 3 and len(server.asked) == 12


def test_beyond_its_cost_nobody_is_asked(serve: Any) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    server = serve(lambda *_: (200, said("Plan.", usage=usage), {}))
    agent = endpoint(server, prices=Prices(read=1000.0), max_cost=1.5, concurrency=1)
    # Each answer costs 1; the second passes the limit.
    assert [r.failure for r in agent.reply([ASK] * 4)] == ["", "", "cost", "cost"]
    assert len(server.asked) == 2


def test_a_server_that_does_not_count_is_charged_for_the_most(serve: Any) -> None:
    server = serve(lambda *_: (200, said("Plan."), {}))
    agent = endpoint(server, prices=PRICES, sampling=SHORT, concurrency=1)
    assert [r.usage for r in agent.reply([ASK] * 3)] == [
        Usage(MOST_READ, 10, 0.25, is_estimated=True)
    ] * 3
    found = agent.ledger.numbers()
    assert (found["answers"], found["unmetered"]) == (3, 3)
    assert (found["read_tokens"], found["generated_tokens"], found["money"]) == (0, 0, 0)
    assert found["estimated_read_tokens"] == 3 * MOST_READ
    assert found["estimated_generated_tokens"] == 30
    assert found["estimated_money"] == pytest.approx(0.75)


def test_a_short_answer_that_nobody_counted_is_charged_by_its_bytes(serve: Any) -> None:
    finishes = ["stop", "length"]
    server = serve(lambda server, _: (200, said("Plän.", finishes[len(server.asked) - 1]), {}))
    agent = endpoint(server, concurrency=1, sampling=Sampling(max_new_tokens=500))
    # {"role": "assistant", "content": "Plän."} has 42 bytes; one that was cut has all its tokens.
    assert [r.usage.generated_tokens for r in agent.reply([ASK] * 2)] == [42, 500]
    assert agent.ledger.estimated_generated_tokens == 542


def test_a_limit_binds_where_a_server_does_not_count(serve: Any) -> None:
    server = serve(lambda *_: (200, said("Plan."), {}))
    agent = endpoint(server, prices=PRICES, sampling=SHORT, max_cost=0.6)
    # A quarter each, so that a third would be too much.
    failures = [r.failure for r in agent.reply([ASK] * 4)]
    assert sorted(failures) == ["", "", "cost", "cost"] and len(server.asked) == 2


def test_the_budget_of_a_play_binds_where_a_server_does_not_count(
    serve: Any, make_episode: Callable[..., Episode]
) -> None:
    agent = endpoint(serve(lambda *_: (200, said("Plan."), {})), sampling=SHORT)
    play = Play(make_episode())
    table = Table(Cast({"served": agent}, {"writer": "served"}), agent, Budget(8, 15))
    assert [table.round([Ask(play, "writer", ASK)]) for _ in range(3)] == [["Plan."]] * 2 + [[""]]
    assert play.events == {"failed/budget": 1}
    costs = sum((Cost.of(turn.reply.usage) for turn in play.turns), Cost())
    assert costs.named() == {
        **{"calls": 2, "read_tokens": 2 * MOST_READ, "generated_tokens": 20},
        "estimated_calls": 2,
    }


def test_requests_under_way_do_not_overstep_the_limit_together(serve: Any) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.05)
        usage = {"prompt_tokens": MOST_READ, "completion_tokens": 8}
        return 200, said("Plan.", usage=usage), {}

    server = serve(handle)
    agent = endpoint(server, prices=PRICES, sampling=SHORT, max_cost=0.9, concurrency=8)
    # 0.23 each, and 0.25 at most: three fit, and a fourth would if it turned out short.
    failures = [r.failure for r in agent.reply([ASK] * 8)]
    assert sorted(failures) == [""] * 3 + ["cost"] * 5
    assert agent.ledger.cost == pytest.approx(0.69) and server.most_at_once == 3


def test_a_request_waits_for_those_that_may_leave_it_room(serve: Any) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.02)
        return 200, said("Plan.", usage={"prompt_tokens": 10, "completion_tokens": 0}), {}

    server = serve(handle)
    agent = endpoint(server, prices=PRICES, sampling=SHORT, max_cost=0.6, concurrency=8)
    # Two fit at their longest; each turns out to cost 0.01.
    assert [r.failure for r in agent.reply([ASK] * 12)] == [""] * 12
    assert server.most_at_once == 2 and agent.ledger.cost == pytest.approx(0.12)


def test_a_limit_without_prices_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"max_cost: .* set prices\.read and prices\.generated"):
        Endpoint("http://127.0.0.1/v1", "small", max_cost=1.0)


def test_the_key_is_sent_and_never_shown(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEY_OF_THE_TEST", KEY)
    caplog.set_level("DEBUG")
    good = serve(lambda *_: (200, said("Plan."), {}))
    agent = endpoint(good, api_key_env="KEY_OF_THE_TEST")
    assert agent.reply([ASK]) == [Reply("Plan.")]
    assert good.headers[0]["Authorization"] == f"Bearer {KEY}"
    # A server that repeats the key, right where a long message is cut.
    wrong = serve(lambda *_: (401, ("x" * 290 + f" {KEY} is wrong").encode(), {}))
    with pytest.raises(ValueError, match="refused the request with status 401") as refused:
        endpoint(wrong, api_key_env="KEY_OF_THE_TEST").reply([ASK])
    for shown in (repr(agent), repr(agent.ledger), str(refused.value), caplog.text):
        assert KEY not in shown and KEY[:8] not in shown
    assert len(wrong.asked) == 1


@pytest.mark.parametrize(
    ("url", "key", "complaint"),
    [
        ("127.0.0.1:8000", None, "base_url: should read http"),
        ("http://me:secret@127.0.0.1/v1", None, "base_url: should read http"),
        ("http://127.0.0.1/v1", "NO_SUCH_KEY", "api_key_env: the environment variable NO_SUCH_KEY"),
    ],
)
def test_a_bad_address_or_a_missing_key_is_refused_at_once(
    url: str, key: str | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        Endpoint(url, "small", api_key_env=key)
    assert "secret" not in str(refused.value)
