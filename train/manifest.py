"""What a checkpoint consists of: every file with its SHA-256, and what it was made from.

The manifest is the last file that is written into a checkpoint, and the first that is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from train.files import write_json

NAME = "checkpoint.json"
# Hashing leaves the interpreter, so that threads share it; more than these only wait for the disk.
THREADS = 8


class Damaged(ValueError):
    """A checkpoint is not what was saved; the message says which file, and how it differs."""


@dataclass(frozen=True)
class Manifest:
    """`made_from` names what has to be the same when a run goes on; `files` holds SHA-256 by path.

    `processes` is how many wrote it: each keeps the state of its own random numbers.
    """

    step: int
    processes: int
    made_from: Mapping[str, str]
    files: Mapping[str, str]


def write_manifest(
    folder: Path, step: int, processes: int, made_from: Mapping[str, str]
) -> Manifest:
    """Hashes all files below `folder`, and puts the manifest beside them."""
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    hashes = _hashes(folder, sorted(files - {NAME}))
    manifest = Manifest(step, processes, dict(made_from), hashes)
    write_json(folder / NAME, asdict(manifest))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint whose files are all as they were saved.

    Raises:
        Damaged: a file is missing or differs, or there is no manifest that can be read.
    """
    try:
        manifest = Manifest(**json.loads((folder / NAME).read_text(encoding="utf-8")))
        expected = dict(manifest.files)
    except FileNotFoundError as error:
        raise Damaged(f"{NAME} is missing") from error
    except (ValueError, TypeError) as error:
        raise Damaged(f"{NAME} cannot be read") from error
    missing = [path for path in expected if not (folder / path).is_file()]
    if missing:
        raise Damaged(f"{missing[0]} is missing")
    try:
        found = _hashes(folder, sorted(expected))
    except OSError as error:
        # A failing disk is damage like any other; a file that may not be read is not.
        if error.errno != errno.EIO:
            raise
        raise Damaged(f"{error.filename} cannot be read ({error.strerror})") from error
    changed = [path for path in expected if found[path] != expected[path]]
    if changed:
        raise Damaged(f"{changed[0]} is not what was saved (another SHA-256)")
    return manifest


def check_whole(folder: Path) -> None:
    """Refuses a folder with a manifest that is not as it was saved; others have nothing to check.

    Raises:
        Damaged: names the folder.
    """
    if (folder / NAME).exists():
        try:
            read_manifest(folder)
        except Damaged as damage:
            raise Damaged(f"{folder}: {damage}; name another checkpoint") from damage


def _hashes(folder: Path, paths: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(paths, threads.map(_sha256, [folder / p for p in paths]), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
