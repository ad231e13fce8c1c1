"""What the Hub answers, as its user is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Prefetch = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def served(answer: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Answer(BaseHTTPRequestHandler):
    """Answers in the form of the real Hub."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def refusing(status: int, code: str, message: str) -> type[Answer]:
    said = {"X-Error-Code": code, "X-Error-Message": message}

    class Refusing(Answer):
        def do_GET(self) -> None:
            self.answer(status, {name: value for name, value in said.items() if value})

        do_HEAD = do_GET

    return Refusing


class Having(Answer):
    """Has books/writer at one commit, with weights in both forms."""

    files: ClassVar = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"a pickle",
    }

    def do_GET(self) -> None:
        path, name = self.path.partition("?")[0], self.path.rpartition("/")[2]
        if path == "/api/models/books/writer/revision/first":
            siblings = [{"rfilename": n} for n in self.files]
            told = {"id": "books/writer", "sha": COMMIT, "siblings": siblings}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())
        elif path == f"/api/models/books/writer/tree/{COMMIT}":
            listed = [{"type": "file", "path": n, "oid": n, "size": 1} for n in self.files]
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())
        elif path == f"/books/writer/resolve/{COMMIT}/{name}":
            known = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            self.answer(200, known, self.files[name])
        else:
            self.answer(404, {})

    do_HEAD = do_GET


@pytest.fixture
def prefetch(tmp_path: Path) -> Prefetch:
    def run(endpoint: str, **variables: str) -> subprocess.CompletedProcess[str]:
        where = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_of_a_test"}
        where |= variables
        return subprocess.run(
            [
                *(sys.executable, "-P", "-m", "launch", "launch", "prefetch"),
                *("generator.model.path=books/writer", "generator.model.revision=first"),
            ],
            env={k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | where,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_what_is_fetched_is_pinned_has_no_pickle_and_is_enough_without_the_hub(
    prefetch: Prefetch, tmp_path: Path
) -> None:
    with served(Having) as endpoint:
        done = prefetch(endpoint)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"books/writer: {COMMIT}",
        f"  to pin it: generator.model.revision={COMMIT}",
    ]
    with served(refusing(500, "", "Internal error")) as endpoint:
        assert prefetch(endpoint).stdout == done.stdout
    kept = {path.name for path in (tmp_path / "hub").glob(f"*/snapshots/{COMMIT}/*")}
    assert kept == {"config.json", "model.safetensors"}
    # Where there is no Hub any more, a launch finds the commit in the cache.
    model = "{'model': {'path': 'books/writer', 'dtype': 'auto', 'revision': 'first'}}"
    asked = f"from launch.jobs.prefetch import pinned; print(pinned({model}))"
    where = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", asked], env=where, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == f"{{'model.revision': '{COMMIT}'}}"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            (401, "", "Invalid credentials in Authorization header"),
            "the Hub refused books/writer (401); the token in HF_TOKEN is wrong",
        ),
        # So the Hub answers without a token as well, whatever the name.
        ((401, "RepoNotFound", "Repository not found"), "the Hub shows no books/writer; check the"),
        (
            (404, "RevisionNotFound", "Invalid rev id"),
            "books/writer has no revision first; set gen",
        ),
        ((403, "GatedRepo", "Access is restricted"), "books/writer is gated; ask for access on"),
        ((403, "", "Forbidden"), "refused books/writer (403); the token in HF_TOKEN is wrong, or"),
        ((404, "", ""), "nothing answers for books/writer (404); check the name and HF_ENDPOINT"),
        ((500, "", "Internal error"), "the Hub refused books/writer (500); try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_the_reason(
    prefetch: Prefetch, answer: tuple[int, str, str], says: str
) -> None:
    with served(refusing(*answer)) as endpoint:
        done = prefetch(endpoint)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("nextchapter launch prefetch: generator.model.path: ")
    assert says in line
    assert "hf_of_a_test" not in done.stdout + done.stderr


def test_a_hub_that_is_not_reached_is_said_so(prefetch: Prefetch) -> None:
    done = prefetch("http://127.0.0.1:1")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "this machine does not reach books/writer; see HF_ENDPOINT" in line


class Proxy(Answer):
    def do_CONNECT(self) -> None:
        self.answer(403, {})


class Breaking(Answer):
    """Ends the connection in the place of an answer."""

    def do_GET(self) -> None:
        self.close_connection = True

    do_HEAD = do_GET


def test_a_proxy_that_refuses_and_a_connection_that_breaks_are_the_same_line(
    prefetch: Prefetch,
) -> None:
    with served(Proxy) as proxy, served(Breaking) as endpoint:
        refused = prefetch("https://hub.test", HTTPS_PROXY=proxy, NO_PROXY="")
        broken = prefetch(endpoint)
    for done in (refused, broken):
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.endswith(
            "this machine does not reach books/writer; see HF_ENDPOINT, HF_HUB_OFFLINE and the "
            "proxy in HTTPS_PROXY"
        )
