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

    def lookup(self, requests: Iterable[ScoreRequest]) -> dict[ScoreRequest, Likelihood]:
        found = {request: self._read(request.digest) for request in requests}
        return {request: value for request, value in found.items() if value is not None}

    def add(self, likelihoods: Mapping[ScoreRequest, Likelihood]) -> None:
        """Keeps them; of two processes that add the same request, the later one is kept.

        What cannot be written is logged and not kept: it is only a cache, and the run goes on.
        """
        for request, likelihood in likelihoods.items():
            path = self._path(request.digest)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, _encode(request.digest, likelihood))
            except OSError as error:
                logger.warning("likelihoods are not kept: %s", error)
                return

    def _read(self, key: bytes) -> Likelihood | None:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s; its likelihood is computed again", error)
            return None
        likelihood = _decode(key, entry)
        if likelihood is None:
            logger.warning("%s is damaged; its likelihood is computed again", path)
        return likelihood

    def _path(self, key: bytes) -> Path:
        # 256 folders keep each of them short.
        return self.folder / key.hex()[:2] / key.hex()[2:]


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
