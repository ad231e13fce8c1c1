"""`nextchapter prepare data.paths=[BOOKS] agent=...`: story information from raw books."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from envs.sources.bookshelf import BookshelfSource
from envs.types import Agent, Book, Split
from train.config.build import TARGET, build
from train.config.validate import parse, plain
from train.member_ledgers import accounted, ledgers_of
from train.preparing.answers import AnswerStore
from train.preparing.desk import Desk, Tally
from train.preparing.entailment import Entailment
from train.preparing.identity import identity_of
from train.preparing.prepare import Preparation
from train.preparing.scribe import Scribe
from train.preparing.settings import PrepareConfig
from train.preparing.write import SPLITS, check_folder, manifest, write_manifest, write_rows
from train.progress import ProgressDisplay
from train.run_folder import redacted

# What says nothing about the rows: where they lie, how they are batched, how long an agent waits.
# The manifest names the agent by its identity.
_OF_THE_PLACE = ("run_dir", "cache_dir", "experiment_name", "batch_size", "agent")

# Failures that another try would not mend.
_FOR_GOOD = {"too_long", "budget"}


def run(config: DictConfig) -> None:
    """Makes rows of the published task for every split, with a manifest."""
    settings = parse(PrepareConfig, config)
    if settings.agent is None:
        raise ValueError(
            "agent: is missing; nextchapter prepare agent=local agent.model.path=MODEL, "
            "agent=endpoint agent.base_url=URL agent.model=NAME, or "
            "'+agent._target_=my_module.MyAgent'"
        )
    books = read_books(settings)
    agent: Agent = build(settings.agent, "agent")
    if not hasattr(agent, "reply"):
        raise ValueError(
            f"agent._target_: {settings.agent['_target_']} makes no agent; give reply()"
        )
    checker: Entailment = build(
        settings.entailment, "entailment", wording=settings.wording, writer=agent
    )
    if "transformers" in sys.modules:
        # Loaded by a local model alone; with an endpoint nobody has to wait for it.
        from train.quiet import quiet_libraries

        quiet_libraries()
    identities = {"agent": identity_of(agent), "verdicts": identity_of(checker)}
    asked = {k: v for k, v in redacted(plain(config)).items() if k not in _OF_THE_PLACE}
    folder = Path(settings.run_dir)
    check_folder(folder, asked, identities)
    tally, display = Tally(settings.budget), ProgressDisplay()
    store = Path(settings.cache_dir) / "answers"
    how = (tally, settings.batch_size, display)
    scribe = Scribe(
        Desk(agent.reply, AnswerStore(store, identities["agent"]), *how),
        settings.wording,
        settings.lengths.max_words_read,
        getattr(agent, "fits", lambda conversation: True),
    )
    checks = Desk(checker.check, AnswerStore(store, identities["verdicts"]), *how)
    preparation = Preparation(scribe, checks, checker, settings)
    members = {"agent": agent, "verdicts": getattr(checker, "agent", None)}
    if members["verdicts"] is agent:
        del members["verdicts"]
    with accounted(folder, ledgers_of(members)):
        rows = rows_by_split(preparation, books)
    files = write_rows(folder, rows)
    found = manifest(asked, identities, files, books, rows, tally, preparation.statements)
    write_manifest(folder, found)
    _show(Console(), folder, found, tally)


def read_books(settings: PrepareConfig) -> dict[Split, list[Book]]:
    """The books of each split, cut to as many chapters as are asked for."""
    shared = dataclasses.asdict(settings.data)
    most = shared.pop("max_chapters")
    name = f"{BookshelfSource.__module__}.{BookshelfSource.__qualname__}"
    # Built like a data source of a run, so that what it refuses is named by its key.
    shelf: BookshelfSource = build({TARGET: name, "seed": settings.seed, **shared}, "data")
    return {
        split: [replace(book, chapters=book.chapters[:most]) for book in shelf.books(split)]
        for split in SPLITS
    }


def rows_by_split(
    preparation: Preparation, books: dict[Split, list[Book]]
) -> dict[Split, list[dict[str, Any]]]:
    """All books are read together, whatever their split."""
    placed: list[tuple[Split, Book]] = [(s, book) for s in SPLITS for book in books[s]]
    rows: dict[Split, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    made = preparation.rows([book for _, book in placed])
    for (split, _), of_book in zip(placed, made, strict=True):
        rows[split].extend(of_book)
    return rows


def _show(console: Console, folder: Path, found: dict[str, Any], tally: Tally) -> None:
    total = dataclasses.asdict(tally.total)
    lines = [
        ", ".join(f"{n['episodes']} episodes in {name}" for name, n in found["files"].items()),
        f"{total['calls']} answers ({tally.fresh_calls} new), {total['read_tokens']} tokens read, "
        f"{total['generated_tokens']} generated",
        "Statements: " + (", ".join(f"{n} {k}" for k, n in found["statements"].items()) or "none"),
    ]
    failures = found["failures"]
    failed = [f"{n} {why} ({kind})" for kind, own in failures.items() for why, n in own.items()]
    if failed:
        lines.append(f"Without a whole answer: {', '.join(failed)}")
    if any(set(own) - _FOR_GOOD for own in failures.values()):
        lines.append("The same command asks again what had no answer.")
    lines.append(f"{folder} holds the rows and manifest.json")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
