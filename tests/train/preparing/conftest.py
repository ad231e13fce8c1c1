"""Books whose every chapter has words of its own, and preparations of them by a scripted agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from envs.types import Book, Chapter
from train.commands.prepare import run
from train.config.validate import parse
from train.preparing.answers import AnswerStore
from train.preparing.desk import Desk, Tally
from train.preparing.entailment import AskedEntailment
from train.preparing.identity import identity_of
from train.preparing.prepare import Preparation
from train.preparing.scribe import Scribe
from train.preparing.settings import PrepareConfig
from train.progress import ProgressDisplay

HERE = Path(__file__).parent
ECHO = "+agent._target_=scripted_readers.Echo"


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of scripted agents, where a config finds it by its name."""
    monkeypatch.syspath_prepend(str(HERE))
    import importlib

    return importlib.import_module("scripted_readers")


@pytest.fixture
def configured(repository: Path, tmp_path: Path) -> Callable[..., PrepareConfig]:
    """The settings of a preparation with overrides."""

    def configure(*overrides: str) -> PrepareConfig:
        own = ["data.paths=[nowhere]", f"run_dir={tmp_path / 'made'}", f"cache_dir={tmp_path}"]
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            return parse(PrepareConfig, compose("prepare", [*own, *overrides]))

    return configure


@pytest.fixture
def preparation(configured: Callable[..., PrepareConfig]) -> Callable[..., Preparation]:
    """A preparation by an agent, who is asked for verdicts as well."""

    def make(agent: Any, *overrides: str) -> Preparation:
        config = configured(*overrides)
        how = (Tally(config.budget), config.batch_size, ProgressDisplay())
        entailment = AskedEntailment(config.wording, agent)
        folder = Path(config.cache_dir) / "answers"
        scribe = Scribe(
            Desk(agent.reply, AnswerStore(folder, identity_of(agent)), *how),
            config.wording,
            config.lengths.max_words_read,
        )
        checks = Desk(entailment.check, AnswerStore(folder, identity_of(entailment)), *how)
        return Preparation(scribe, checks, entailment, config)

    return make


@pytest.fixture
def book() -> Callable[..., Book]:
    """A book of short chapters in which Ann is always there, and Bob in the later ones."""

    def make(number: int = 0, chapters: int = 4) -> Book:
        return Book(
            f"book{number}",
            f"The Book {number}",
            "A. Writer",
            tuple(
                Chapter(
                    f"Title of b{number}c{n}x",
                    f"Ann walked to b{number}c{n}x."
                    + (f"\n\nThere Bob had waited for b{number}c{n}x." if n else ""),
                )
                for n in range(chapters)
            ),
        )

    return make


@pytest.fixture
def shelf(book: Callable[..., Book], tmp_path: Path) -> Path:
    """Three books of four chapters: one for each split."""
    path = tmp_path / "shelf.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for made in map(book, range(3)):
            chapters = [{"title": c.title, "text": c.text} for c in made.chapters]
            record = {"title": made.title, "author": f"{made.book_id} Author", "chapters": chapters}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture
def prepare(repository: Path, shelf: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs the command with overrides; returns its folder."""

    def prepared(*overrides: str, name: str = "made", cache: str = "cache") -> Path:
        own = [f"data.paths=[{shelf}]", f"run_dir={tmp_path / name}"]
        own.append(f"cache_dir={tmp_path / cache}")
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            run(compose("prepare", [*own, *overrides]))
        return tmp_path / name

    return prepared


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for split in ("train", "validation", "test")
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
