"""Fixtures for all tests: the shelf of real books, a small story world, tiny random models, and
servers over HTTP."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from envs.sources.storyworld import StoryWorldSource
    from envs.types import Episode
    from rewards.encode import GeneratorEncoder
    from rewards.types import Likelihood, ScoreRequest

# What is smallest of each architecture; a test adds the fields that it is about.
_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
_SMALL_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_BOOKS = REPOSITORY.parent / "shared" / "books"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def kernels_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DeepSpeed compiles its CPU kernels into a folder of these tests.

    In the user's cache, the lock of a compilation that was killed makes every later one wait. Who
    runs tests again and again can name a folder that stays.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "TORCH_EXTENSIONS_DIR" not in os.environ:
            patch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """Hydra has the root logger write to the streams and folders of the test that calls it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="session")
def shared_books() -> Path:
    """The shelf of real books beside the repository; a test that wants it is skipped without."""
    if not SHARED_BOOKS.is_dir():
        pytest.skip("needs the shelf at ../shared/books")
    return SHARED_BOOKS


@pytest.fixture(scope="session")
def compose_train(repository: Path) -> Callable[..., DictConfig]:
    """Composes the config of `nextchapter train` from overrides."""
    from hydra import compose, initialize_config_dir

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            return compose("train", ["run_dir=runs/of_a_test", *overrides])

    return composed


@pytest.fixture(scope="session")
def world() -> StoryWorldSource:
    """A story world of few books."""
    from envs.sources.storyworld import StoryWorldSource

    return StoryWorldSource(
        seed=1,
        writing_books=6,
        demonstration_books=4,
        train_books=4,
        validation_books=2,
        test_books=3,
    )


@pytest.fixture(scope="session")
def tokenizer(world: StoryWorldSource) -> PreTrainedTokenizerBase:
    """A small tokenizer with a chat template, trained on the story world."""
    from train.scratch import train_tokenizer

    return train_tokenizer((episode.chapter.text for episode in world.episodes("train")), 400)


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerBase) -> Callable[..., PreTrainedModel]:
    """Makes a tiny random model of a `model_type`; `fields` are those of its config."""
    from train.scratch import random_model

    def make(model_type: str = "llama", seed: int = 0, **fields: Any) -> PreTrainedModel:
        small = _SMALL_GPT2 if model_type == "gpt2" else _SMALL
        return random_model({"model_type": model_type, **small, **fields}, tokenizer, seed)

    return make


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    """Makes an episode of few words; `plans` are its reference plans."""
    from envs.types import Chapter, Episode, Section, StoryContext

    def make(
        episode_id: str = "book/1", known: str = "Ann owes Bob a ring.", **plans: str
    ) -> Episode:
        hindsight = Section("Synopsis", "Ann pays in the end.", hindsight=True)
        context = StoryContext((Section("So far", known), hindsight))
        chapter = Chapter("Chapter two", "Ann went to the mill and paid what she owed.")
        return Episode(episode_id, context, chapter, plans)

    return make


class FakeScorer:
    """Every gold token costs 2 nats, less a hundredth of a nat for each token between x and y."""

    def __init__(self) -> None:
        self.asked: list[ScoreRequest] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        from rewards.types import Likelihood

        self.asked.extend(requests)
        costs = [(2 - 0.01 * len(r.guidance_ids),) * len(r.gold_ids) for r in requests]
        return [Likelihood(sum(cost), cost) for cost in costs]


@pytest.fixture
def fake_scorer() -> FakeScorer:
    return FakeScorer()


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerBase) -> GeneratorEncoder:
    """Lays episodes out under the default prompts, without limits."""
    from envs.prompts import Prompts
    from rewards.encode import GeneratorEncoder

    return GeneratorEncoder(tokenizer, Prompts())


# Status, body and headers of an answer.
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With NEXTCHAPTER_REQUIRE_SHARED=1, a test skipped for want of ../shared has failed."""
    report = yield
    if report.skipped and os.environ.get("NEXTCHAPTER_REQUIRE_SHARED") == "1":
        reason = str(report.longrepr)
        if "../shared/" in reason or "shared" in item.keywords:
            report.outcome = "failed"
            report.longrepr = f"skipped, though the shelf has to be there: {reason}"
    return report
