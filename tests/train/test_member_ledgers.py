"""What endpoints were asked and paid is told at the end, whether it is good or bad."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.members.endpoint import Endpoint
from envs.members.ledger import Ledger, Prices
from envs.sampling import Sampling
from envs.types import Message, Reply, Usage
from train.member_ledgers import MEMBERS, accounted, ledgers_in, ledgers_of, report_members, told
from train.member_metrics import MemberMetrics

KEY = "sk-a-secret-of-the-test"
ASK = (Message("user", "Ann."),)


def counted(text: str) -> tuple[int, bytes, dict[str, str]]:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    answer = {"choices": [{"message": {"content": text}}], "usage": usage}
    return 200, json.dumps(answer).encode(), {}


@pytest.fixture
def endpoint(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """Behind it every third answer is none, and each is paid by a key."""
    monkeypatch.setenv("KEY_OF_THE_TEST", KEY)

    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        return (503, b"busy", {}) if len(server.asked) % 3 == 0 else counted("Plan.")

    return Endpoint(
        serve(handle).url,
        "small",
        "KEY_OF_THE_TEST",
        backoff_s=0.01,
        concurrency=1,
        prices=Prices(read=1000.0, generated=10_000.0),
    )


def test_what_members_were_paid_is_left_in_the_folder_and_added_up_over_starts(
    endpoint: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for start in (endpoint, replace(endpoint)):
        env = Feedback(cast=Cast({"served": start}, {"verifier": "served"}))
        with accounted(tmp_path / "run", ledgers_in(env)):
            assert start.reply([ASK] * 3) == [Reply("Plan.")] * 3
    written = (tmp_path / "run" / MEMBERS).read_text(encoding="utf-8")
    found = json.loads(written)["served"]
    # Of eight requests the third and the sixth are refused.
    assert (found["requests"], found["retries"], found["answers"]) == (8, 2, 6)
    assert (found["read_tokens"], found["generated_tokens"]) == (60, 12)
    assert found["money"] == pytest.approx(6 * 0.03)
    assert found["failed/busy"] == found["unmetered"] == found["estimated_money"] == 0
    assert len([r for r in caplog.records if r.name == "train.member_ledgers"]) == 2
    assert "served: requests: 4 (1 tried again); answers: 3 (0 rejected)" in caplog.text
    assert "tokens read: 30, generated: 6, paid: 0.09" in caplog.text
    for shown in (written, caplog.text):
        assert KEY not in shown and KEY[:8] not in shown


def test_who_fails_has_paid_as_well(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    gone = Endpoint(url, "small", max_retries=1, backoff_s=0.01, max_failures=2)
    with (
        pytest.raises(OSError, match="2 conversations in a row"),
        accounted(tmp_path / "run", ledgers_of({"gone": gone})),
    ):
        gone.reply([ASK] * 2)
    found = json.loads((tmp_path / "run" / MEMBERS).read_text(encoding="utf-8"))["gone"]
    assert (found["requests"], found["retries"], found["failed/unreachable"]) == (4, 2, 2)


def test_a_run_that_is_refused_before_anybody_was_asked_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), accounted(tmp_path / "run", {"served": Ledger()}):
        raise ValueError("run_dir: should be another")
    assert not (tmp_path / "run").exists()


def test_without_a_ledger_there_is_no_file(tmp_path: Path) -> None:
    assert ledgers_in(Feedback()) == {} == ledgers_of({"agent": object(), "verdicts": None})
    with accounted(tmp_path / "run", {}):
        pass
    assert not (tmp_path / "run").exists()


def test_members_of_earlier_starts_are_kept(tmp_path: Path) -> None:
    report_members(tmp_path, {"ann": Ledger(requests=1)})
    report_members(tmp_path, {"bob": Ledger(requests=2)})
    found = json.loads((tmp_path / MEMBERS).read_text(encoding="utf-8"))
    assert {name: numbers["requests"] for name, numbers in found.items()} == {"ann": 1, "bob": 2}


def test_the_line_says_what_was_estimated_and_why_there_is_no_answer(
    serve: Callable[..., Any],
) -> None:
    body = json.dumps({"choices": [{"message": {"content": "Plan."}}]}).encode()
    server = serve(lambda server, _: (503 if len(server.asked) > 1 else 200, body, {}))
    agent = Endpoint(
        server.url, "small", None, Sampling(max_new_tokens=8), max_retries=0, concurrency=1
    )
    agent.reply([ASK] * 3)
    # Four bytes, and 64 tokens for the template.
    assert told(agent.ledger.numbers()) == (
        "requests: 3 (0 tried again); answers: 1 (0 rejected); without an answer: 2 (2 busy); "
        "tokens read: 0, generated: 0, paid: 0; "
        "not counted by the server: 1, at most 68 tokens read, 8 generated, 0 paid"
    )


def test_a_step_logs_what_has_come_since_the_last_line() -> None:
    ledger = Ledger(Prices(read=1e6))
    metrics = MemberMetrics({"served": ledger})
    lines = []
    for tokens in (3, 4):
        ledger.add_request(is_retry=False)
        ledger.book(Usage(tokens, 0), Usage())
        metrics.on_step_end(None, None, None)
        lines.append(metrics.since_last())
    names = ("member/served/requests", "member/served/read_tokens", "member/served/money")
    assert [[line[name] for name in names] for line in lines] == [[1, 3, 3.0], [1, 4, 4.0]]
