"""Likelihoods kept for later: for one run in memory, for all runs on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from rewards.types import Likelihood, ScoreRequest

logger = logging.getLogger(__name__)

# Opens every entry. Another layout of entries is another name, and then nothing old is found.
FORMAT = b"nextchapter likelihood 1\n"
CHECKSUM_BYTES = 32
# A file with likelihoods that are about to be put in their places.
JOURNAL = ".journal-"


class LikelihoodStore(Protocol):
    """Keeps what requests cost under one generator."""

    def lookup(self, requests: Iterable[ScoreRequest]) -> dict[ScoreRequest, Likelihood]:
        """The likelihoods that are kept; a request without one is left out."""
        ...

    def add(self, likelihoods: Mapping[ScoreRequest, Likelihood]) -> None: ...


class MemoryLikelihoodStore:
    """Keeps likelihoods for its own life."""

    def __init__(self) -> None:
        self._kept: dict[ScoreRequest, Likelihood] = {}

    def lookup(self, requests: Iterable[ScoreRequest]) -> dict[ScoreRequest, Likelihood]:
        return {r: self._kept[r] for r in requests if r in self._kept}

    def add(self, likelihoods: Mapping[ScoreRequest, Likelihood]) -> None:
        self._kept.update(likelihoods)


class DiskLikelihoodStore:
    """Keeps likelihoods in a folder, for any number of processes and machines at once.

    `generator_key` names everything besides the token ids that a likelihood depends on: the
    weights' hash, dtype, tokenizer, template, scorer. Another key is another folder, so another
    generator finds nothing. A likelihood comes back bit for bit as it was added.

    Every likelihood is a file of its own, written under another name and renamed into place. That
    needs no lock and no shared memory, so it holds on the network file systems that clusters share
    (NFS, Lustre), where an embedded database does not: SQLite's write-ahead log works on one host
    only, and its locks are only as good as the mount's. A process killed while writing leaves a
    file that nobody reads. Every file has a checksum over its key and content; one that is torn,
    altered or in the place of another is logged, counts as missing, and is written again.
    """

    def __init__(self, path: Path, generator_key: Mapping[str, str]) -> None:
        if Path(path).is_file():
            raise ValueError(
                f"{path} is a file; likelihoods are kept in a folder. Name another path."
            )
        text = json.dumps(dict(generator_key), sort_keys=True, indent=2) + "\n"
        self.folder = Path(path) / hashlib.sha256(FORMAT + text.encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        # Read by people only.
        _write(self.folder / "generator.json", text.encode())
        for journal in self.folder.glob(f"{JOURNAL}*"):
            self._finish(journal)

    def lookup(self, requests: Iterable[ScoreRequest]) -> dict[ScoreRequest, Likelihood]:
        found = {request: self._read(request_digest(request)) for request in requests}
        return {request: value for request, value in found.items() if value is not None}

    def add(self, likelihoods: Mapping[ScoreRequest, Likelihood]) -> None:
        """Keeps them all; of two processes that add the same request, the later one is kept.

        All or none: what is scored together decides the last digits of each, so that a run which
        was killed in here must not find some of them when it goes on, and score the rest alone.
        """
        digests = {request_digest(request): value for request, value in likelihoods.items()}
        entries = {key: _encode(key, value) for key, value in digests.items()}
        if not entries:
            return
        journal = self.folder / f"{JOURNAL}{uuid.uuid4().hex}"
        _write(journal, b"".join(key + len(e).to_bytes(8) + e for key, e in entries.items()))
        self._put(entries)
        journal.unlink(missing_ok=True)

    def _put(self, entries: Mapping[bytes, bytes]) -> None:
        for key, entry in entries.items():
            path = self._path(key)
            path.parent.mkdir(exist_ok=True)
            _write(path, entry)

    def _finish(self, journal: Path) -> None:
        """Puts in place what a process was killed over; one that is still at it does the same."""
        try:
            content = journal.read_bytes()
        except FileNotFoundError:
            return
        entries = {}
        while content:
            key, size = content[:32], int.from_bytes(content[32:40])
            entries[key], content = content[40 : 40 + size], content[40 + size :]
        self._put(entries)
        journal.unlink(missing_ok=True)

    def _read(self, key: bytes) -> Likelihood | None:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        likelihood = _decode(key, entry)
        if likelihood is None:
            logger.warning("%s is damaged; its likelihood is computed again", path)
        return likelihood

    def _path(self, key: bytes) -> Path:
        # 256 folders keep each of them short.
        return self.folder / key.hex()[:2] / key.hex()[2:]


def request_digest(request: ScoreRequest) -> bytes:
    """32 bytes for what a likelihood depends on in a request: all ids, which are scored, by whom.

    Neither the episode's name nor the border between prefix and guidance is part of it.
    """
    content = array("q", [len(request.gold_ids), *request.token_ids]).tobytes()
    by_whom = b"" if request.mixture is None else repr(request.mixture).encode()
    return hashlib.sha256(content + by_whom).digest()


def _encode(key: bytes, likelihood: Likelihood) -> bytes:
    # float64, although tokens cost fp32 today: whatever was computed comes back bit for bit.
    content = array("d", [likelihood.nll, *likelihood.token_nll]).tobytes()
    return FORMAT + hashlib.sha256(key + content).digest() + content


def _decode(key: bytes, entry: bytes) -> Likelihood | None:
    """The likelihood, or None where the entry is not one that was written for this key."""
    start = len(FORMAT) + CHECKSUM_BYTES
    checksum, content = entry[len(FORMAT) : start], entry[start:]
    if entry[: len(FORMAT)] != FORMAT or hashlib.sha256(key + content).digest() != checksum:
        return None
    nll, *token_nll = array("d", content)
    return Likelihood(nll, tuple(token_nll))


def _write(path: Path, content: bytes) -> None:
    """Puts a file in its place in one step.

    It is not forced to the disk: after a power failure its checksum tells, and it is only a cache.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
