"""`nextchapter prepare`, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig

from envs.prompts import prompt_leaks
from train.config.build import build
from train.config.validate import parse
from train.schema import RunConfig

HERE = Path(__file__).parent
ECHO = "+agent._target_=scripted_readers.Echo"
NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
FILES = ("train.jsonl", "validation.jsonl", "test.jsonl", "manifest.json")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_what_it_makes_is_read_by_the_published_source(
    prepare: Callable[..., Path], readers: ModuleType, compose_train: Callable[..., DictConfig]
) -> None:
    folder = prepare(ECHO)
    config = parse(
        RunConfig,
        compose_train(
            "data=published",
            *(f"data.{s}=[{folder}/{s}.jsonl]" for s in ("train", "validation", "test")),
        ),
    )
    source = build(config.data, "data")
    books = {split: {e.book_id for e in source.episodes(split)} for split in ("train", "test")}
    assert [len(found) for found in books.values()] == [1, 1] and books["train"] != books["test"]
    for split in ("train", "validation", "test"):
        episodes = source.episodes(split)
        assert len(episodes) == 3
        headings = [section.heading for section in episodes[0].context.known_before().sections]
        assert headings == ["The story so far", "Characters", "Previous chapters"]
        for episode in episodes:
            assert not prompt_leaks(config.prompts.ask_for_plan(episode.context), episode, 6)


def test_the_manifest_says_what_it_cost_and_what_became_of_the_statements(
    prepare: Callable[..., Path], readers: ModuleType
) -> None:
    found = json.loads((prepare(ECHO) / "manifest.json").read_text(encoding="utf-8"))
    # Of three books: three chapters are summed up; Ann is in three of them and Bob in two, which
    # makes five answers with two statements each, of which one is about another book.
    calls = {kind: cost["calls"] for kind, cost in found["costs"].items()}
    assert calls == {
        "chapter_summary": 9,
        "characters": 9,
        "statements": 15,
        "verdict": 30,
        "total": 63,
    }
    assert found["costs"]["total"]["generated_tokens"] > 0
    assert found["statements"] == {"dropped": 15, "kept": 15, "written": 30}
    assert found["failures"] == {}
    assert found["files"]["train.jsonl"]["episodes"] == 3
    assert found["hindsight"]["next_chapter_synopsis"] == {
        "made": "from the chapter itself",
        "rows": 0,
    }
    assert found["rows_without"]["prior_plot_summary"] == 0


def test_a_preparation_that_was_killed_ends_as_if_it_had_not_been(
    shelf: Path, tmp_path: Path, repository: Path
) -> None:
    def start(name: str, seconds: float) -> subprocess.Popen[bytes]:
        own = [f"data.paths=[{shelf}]", f"run_dir={tmp_path / name / 'made'}", ECHO]
        own += [f"cache_dir={tmp_path / name}", "batch_size=4"]
        own.append(f"+agent.seconds_per_batch={seconds}")
        path = os.pathsep.join([str(HERE), str(repository)])
        return subprocess.Popen(
            [*NEXTCHAPTER, "prepare", *own],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kept_batches() -> int:
        return sum(
            p.read_bytes().count(b"answers") for p in tmp_path.glob("killed/answers/*.jsonl")
        )

    killed = start("killed", 0.3)
    deadline = time.monotonic() + 120
    while kept_batches() < 5 and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    # What a kill in the middle of a write would leave.
    (store, *_) = tmp_path.glob("killed/answers/*.jsonl")
    with store.open("ab") as file:
        file.write(b'\n{"answers": {"0123')
    assert not (tmp_path / "killed" / "made" / "manifest.json").exists()
    assert start("killed", 0.0).wait() == 0
    assert start("whole", 0.0).wait() == 0
    assert bytes_of(tmp_path / "killed" / "made") == bytes_of(tmp_path / "whole" / "made")


class Chat(ThreadingHTTPServer):
    """A server with OpenAI's chat API, behind which a scripted agent reads."""

    daemon_threads = True

    def __init__(self, agent: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.agent = agent
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = self.failures_left = 0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from envs.types import Message

        server = self.server
        assert isinstance(server, Chat)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            server.failures_left -= 1
            is_down = server.failures_left >= 0
        time.sleep(0.01)
        talk = tuple(Message(m["role"], m["content"]) for m in request["messages"])
        (reply,) = server.agent.reply([talk])
        answer = {
            "choices": [{"message": {"content": reply.text}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": reply.usage.read_tokens,
                "completion_tokens": reply.usage.generated_tokens,
            },
        }
        body = json.dumps(answer).encode()
        with server.lock:
            server.at_once -= 1
        self.send_response(503 if is_down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal of the tests."""


@pytest.fixture
def chat(readers: ModuleType) -> Iterator[Chat]:
    server = Chat(readers.Echo())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_endpoint_makes_the_same_rows_and_what_it_failed_at_is_asked_again(
    prepare: Callable[..., Path], chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_THE_TEST", "sk-a-secret")
    url = f"http://127.0.0.1:{chat.server_address[1]}/v1"
    served = ["agent=endpoint", f"agent.base_url={url}", "agent.model=echo", "agent.max_retries=0"]
    served += ["agent.api_key_env=KEY_OF_THE_TEST", "agent.prices.generated=1e6"]
    chat.failures_left = 2
    first = prepare(*served)
    assert 2 <= chat.most_at_once <= 16
    found = json.loads((first / "manifest.json").read_text(encoding="utf-8"))
    assert found["failures"]["chapter_summary"] == {"busy": 2}
    asked = len(chat.agent.asked)
    paid = json.loads((first / "members.json").read_text(encoding="utf-8"))["agent"]
    assert (paid["requests"], paid["answers"], paid["failed/busy"]) == (asked, asked - 2, 2)
    again = bytes_of(prepare(*served))
    # The two summaries; nothing else was new, since all of it hangs on the books' own text.
    assert len(chat.agent.asked) == asked + 2
    text = (first / "members.json").read_text(encoding="utf-8")
    paid, whole = json.loads(text)["agent"], json.loads(again["manifest.json"])["costs"]["total"]
    # Both starts together have asked for what stands in the rows, and for the two in vain.
    assert (paid["requests"], paid["answers"]) == (asked + 2, whole["calls"])
    assert paid["generated_tokens"] == paid["money"] == whole["generated_tokens"]
    assert "sk-a" not in text
    assert json.loads(again["manifest.json"])["failures"] == {}
    local = bytes_of(prepare(ECHO, name="local"))
    assert {name: again[name] == local[name] for name in FILES[:3]} == dict.fromkeys(
        FILES[:3], True
    )


def test_rows_of_other_settings_are_not_written_over(
    prepare: Callable[..., Path], readers: ModuleType
) -> None:
    before = bytes_of(prepare(ECHO))
    assert bytes_of(prepare(ECHO, "batch_size=3")) == before
    with pytest.raises(ValueError, match="made with another sheets"):
        prepare(ECHO, "sheets.num_characters=1")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "agent: is missing"),
        (["agent=local"], "agent: model.path: names the member's model"),
        (["+agent._target_=scripted_readers.TASKS"], "is not a class or a function"),
        ([ECHO, "lengths.story_summary=0"], "lengths.story_summary"),
        (
            [ECHO, "lengths.max_words_read=100"],
            "lengths.max_words_read: should be at least 4 times",
        ),
        ([ECHO, "wording.verdict=Is it so?"], r"wording.verdict: has no \{statement\}"),
        ([ECHO, "data.max_chapters=1"], "data.max_chapters"),
        ([ECHO, "data.test_share=0.9"], "data: validation_share . test_share must leave"),
        ([ECHO, "data.paths=[nowhere]"], "nowhere"),
        ([ECHO, "agnt=local"], "agnt"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    prepare: Callable[..., Path], readers: ModuleType, overrides: list[str], says: str
) -> None:
    with pytest.raises(Exception, match=says):
        prepare(*overrides)


def test_a_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NEXTCHAPTER, "prepare", "agent=local", "agent.model.path=none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "nextchapter prepare: data.paths: required, and not given; set it with data.paths=VALUE\n"
    )
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_shelf_of_real_books_becomes_rows_without_a_leak(
    prepare: Callable[..., Path],
    readers: ModuleType,
    shared_books: Path,
    compose_train: Callable[..., DictConfig],
) -> None:
    names = ("the-time-machine", "the-prisoner-of-zenda", "the-wonderful-wizard-of-oz")
    paths = sorted(p for p in shared_books.glob("*.epub") if p.stem.partition("_")[2] in names)
    assert len(paths) == 3
    folder = prepare(ECHO, f"data.paths=[{','.join(map(str, paths))}]", "data.max_chapters=6")
    splits = [f"data.{s}=[{folder}/{s}.jsonl]" for s in ("train", "validation", "test")]
    config = parse(RunConfig, compose_train("data=published", *splits))
    source = build(config.data, "data")
    for split in ("train", "validation", "test"):
        episodes = source.episodes(split)
        assert len(episodes) == 5
        for episode in episodes:
            assert not prompt_leaks(config.prompts.ask_for_plan(episode.context), episode)
