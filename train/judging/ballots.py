"""What people have answered so far, kept in an embedded database the moment they say it."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from train.judging.comparisons import Comparison
from train.judging.judgments import DIMENSIONS, TIE, Judgment

LEFT, RIGHT = "left", "right"
SIDES = (LEFT, RIGHT, TIE)
_TABLES = """
create table if not exists about (comparisons text not null);
create table if not exists annotators (name text primary key, link text not null unique);
create table if not exists answers (
    annotator text not null, number integer not null, dimension text not null,
    answer text not null, at text not null default current_timestamp,
    primary key (annotator, number, dimension)
);
"""


@dataclass(frozen=True)
class Ballot:
    """One comparison as one annotator sees it: which option stands on the left is not told.

    `answers` are those given so far, by dimension, as sides.
    """

    number: int
    comparison: Comparison
    is_swapped: bool
    answers: dict[str, str]

    @property
    def options(self) -> tuple[str, str]:
        """Those on the left and on the right."""
        first, second = self.comparison.options
        return (second, first) if self.is_swapped else (first, second)

    @property
    def texts(self) -> tuple[str, str]:
        first, second = self.comparison.texts
        return (second, first) if self.is_swapped else (first, second)

    @property
    def is_done(self) -> bool:
        return len(self.answers) == len(DIMENSIONS)

    def as_judgment(self, annotator: str) -> Judgment:
        names = dict(zip((LEFT, RIGHT), self.options, strict=True)) | {TIE: TIE, "": ""}
        return Judgment(
            self.comparison.options,
            {d: names[self.answers.get(d, "")] for d in DIMENSIONS},
            item=self.comparison.item,
            pair=self.comparison.item,
            annotator=annotator,
            first=self.options[0],
            improvements=self.comparison.improvements,
        )


class Ballots:
    """The answers of all annotators to one set of comparisons.

    Raises:
        ValueError: the database holds answers about other texts.
    """

    def __init__(self, path: Path, comparisons: Sequence[Comparison], seed: int) -> None:
        self.comparisons = list(comparisons)
        self.seed = seed
        # The server answers each request in a thread of its own.
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("pragma synchronous = full")
        self._database.executescript(_TABLES)
        text = json.dumps([[asdict(c) for c in self.comparisons], seed], sort_keys=True)
        about = hashlib.sha256(text.encode()).hexdigest()
        known = self._database.execute("select comparisons from about").fetchone()
        if known is None:
            self._database.execute("insert into about values (?)", (about,))
        elif known[0] != about:
            raise ValueError(
                f"run_dir: {path} holds answers about other comparisons or another seed; choose "
                "another folder"
            )

    def close(self) -> None:
        self._database.close()

    def link(self, annotator: str) -> str:
        """What of the annotator's address nobody can guess; the same each time."""
        with self._lock:
            self._database.execute(
                "insert or ignore into annotators values (?, ?)",
                (annotator, secrets.token_urlsafe(12)),
            )
            query = "select link from annotators where name = ?"
            return self._database.execute(query, (annotator,)).fetchone()[0]

    def annotator(self, link: str) -> str | None:
        with self._lock:
            query = "select name from annotators where link = ?"
            found = self._database.execute(query, (link,)).fetchone()
        return found and found[0]

    def ballots(self, annotator: str) -> list[Ballot]:
        """In an order of the annotator's own, in which sides are tossed for as well."""
        with self._lock:
            query = "select number, dimension, answer from answers where annotator = ?"
            rows = self._database.execute(query, (annotator,)).fetchall()
        given: dict[int, dict[str, str]] = {}
        for number, dimension, answer in rows:
            given.setdefault(number, {})[dimension] = answer
        ballots = [
            Ballot(n, comparison, self._toss(annotator, n)[0] % 2 == 1, given.get(n, {}))
            for n, comparison in enumerate(self.comparisons)
        ]
        return sorted(ballots, key=lambda ballot: self._toss(annotator, ballot.number)[1:])

    def answer(self, annotator: str, number: int, dimension: str, side: str) -> None:
        """Saves an answer, in the place of an earlier one.

        Raises:
            ValueError: there is no such comparison, dimension or side.
        """
        is_known = 0 <= number < len(self.comparisons) and dimension in DIMENSIONS
        if not is_known or side not in SIDES:
            raise ValueError(f"no such question or answer: {number}, {dimension}, {side}")
        with self._lock:
            self._database.execute(
                "insert or replace into answers (annotator, number, dimension, answer) "
                "values (?, ?, ?, ?)",
                (annotator, number, dimension, side),
            )

    def judgments(self) -> list[Judgment]:
        """All that were begun, by annotator; what was not answered is left empty."""
        with self._lock:
            names = self._database.execute("select name from annotators order by name").fetchall()
        return [
            ballot.as_judgment(name)
            for (name,) in names
            for ballot in sorted(self.ballots(name), key=lambda b: b.number)
            if ballot.answers
        ]

    def _toss(self, annotator: str, number: int) -> bytes:
        return hashlib.sha256(f"{self.seed}/{annotator}/{number}".encode()).digest()
