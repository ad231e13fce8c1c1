"""An endpoint against a real HTTP server that is quick, slow, busy, wrong, or not there."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from envs.members.endpoint import Endpoint
from envs.members.ledger import Prices
from envs.sampling import Sampling
from envs.types import Message, Reply, Usage

KEY = "sk-a-secret-of-the-test"
ASK = (Message("system", "You plan."), Message("user", "Ann owes Bob."))
Handle = Callable[["Server", dict[str, Any]], tuple[int, bytes, dict[str, str]]]


class Server(ThreadingHTTPServer):
    """Answers every request by `handle`, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, handle: Handle) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.handle = handle
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append({"path": self.path, **request})
            server.headers.append(dict(self.headers))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        status, body, headers = server.handle(server, request)
        with server.lock:
            server.at_once -= 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # Whoever asked may have given up.
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal of the tests."""


def said(text: Any, finish: str = "stop", **others: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], **others}).encode()


@pytest.fixture
def serve() -> Iterator[Callable[[Handle], Server]]:
    servers: list[Server] = []

    def start(handle: Handle) -> Server:
        servers.append(Server(handle))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def endpoint(server: Server, **fields: Any) -> Endpoint:
    return Endpoint(server.url, "small", **{"backoff_s": 0.01, "timeout_s": 5.0, **fields})


def test_answers_come_in_order_with_their_usage_and_what_was_cut(serve: Any) -> None:
    def handle(server: Server, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
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


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_with_growing_waits(serve: Any, status: int) -> None:
    times: list[float] = []

    def handle(server: Server, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        return (200, said("At last."), {}) if len(times) == 4 else (status, b"busy", {})

    agent = endpoint(serve(handle), backoff_s=0.05)
    assert agent.reply([ASK]) == [Reply("At last.")]
    first, second, third = (b - a for a, b in pairwise(times))
    assert first >= 0.05 and second >= 0.1 and third >= 0.2
    assert agent.ledger.requests == 4 and agent.ledger.unmetered == 1


def test_the_servers_own_wait_is_kept_but_no_longer_than_allowed(serve: Any) -> None:
    times: list[float] = []

    def handle(server: Server, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        wait = {1: "0.3", 2: "3600"}.get(len(times))
        return (429, b"", {"Retry-After": wait}) if wait else (200, said("Now."), {})

    assert endpoint(serve(handle), max_wait_s=0.5).reply([ASK]) == [Reply("Now.")]
    assert 0.3 <= times[1] - times[0] < 0.5 <= times[2] - times[1] < 5


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
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


def test_too_much_is_rubbish_and_nothing_is_an_empty_answer(serve: Any) -> None:
    huge = serve(lambda *_: (200, said("x" * (9 * 2**20)), {}))
    assert endpoint(huge, max_retries=0).reply([ASK]) == [Reply("", failure="rubbish")]
    empty = serve(lambda *_: (200, said(None), {}))
    assert endpoint(empty).reply([ASK]) == [Reply("")]


def test_a_slow_server_is_given_up_in_time(serve: Any) -> None:
    def handle(server: Server, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(1.0)
        return 200, said("Too late."), {}

    started = time.monotonic()
    agent = endpoint(serve(handle), timeout_s=0.2, max_retries=1)
    assert agent.reply([ASK]) == [Reply("", failure="slow")]
    assert time.monotonic() - started < 1.0


def test_a_server_that_is_down_is_a_failure_and_many_in_a_row_are_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    agent = Endpoint(url, "small", max_retries=1, backoff_s=0.01, max_failures=3)
    assert agent.reply([ASK] * 2) == [Reply("", failure="unreachable")] * 2
    # The third, though it is asked alone.
    with pytest.raises(OSError, match=r"3 conversations in a row have no answer.*unreachable"):
        agent.reply([ASK])


def test_no_more_requests_are_under_way_than_allowed(serve: Any) -> None:
    def handle(server: Server, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
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
