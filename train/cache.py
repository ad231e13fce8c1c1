"""A cache of stages by content: what a stage makes is kept under a digest of all it depends on.

A second run starts where it differs from the first, and two runs at once make an entry once.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import importlib.util
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from train.files import sync, sync_tree, write_json

MANIFEST = "key.json"


class Cache:
    """Folders `<root>/<stage>/<digest>`, each with a `key.json` that says what it was made from."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def get_or_make(self, stage: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder of this stage and key; `make` fills an empty folder if there is none yet.

        `key` has to name everything the result depends on: settings, inputs (by digest, not by
        path) and code (see `source_fingerprint`).
        """
        entry = self.path(stage, key)
        if _is_whole(entry):
            return entry
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            # Another process may have made it while this one waited.
            if not _is_whole(entry):
                self._make(entry, stage, key, make)
        return entry

    def has(self, stage: str, key: Mapping[str, Any]) -> bool:
        """Whether the entry of this stage and key is there and whole."""
        return _is_whole(self.path(stage, key))

    def path(self, stage: str, key: Mapping[str, Any]) -> Path:
        """Where the entry of this stage and key is, or would be."""
        if not stage or Path(stage).name != stage:
            raise ValueError(f"a stage is named by one word without slashes; got {stage!r}")
        return self.root / stage / digest({"stage": stage, "key": key})[:32]

    def _make(
        self, entry: Path, stage: str, key: Mapping[str, Any], make: Callable[[Path], None]
    ) -> None:
        # What a killed process left behind; no other process is at work on it, under this lock.
        for leftover in (entry, *entry.parent.glob(f".{entry.name}-*")):
            if leftover.exists():
                shutil.rmtree(leftover)
        temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
        temporary.chmod(0o755)
        started = time.perf_counter()
        try:
            make(temporary)
            manifest = {
                "stage": stage,
                "key": _plain(key),
                "seconds": round(time.perf_counter() - started, 3),
                "files": _sizes(temporary),
            }
            write_json(temporary / MANIFEST, manifest)
            sync_tree(temporary)
            os.replace(temporary, entry)
            sync(entry.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def digest(value: Any) -> str:
    """SHA-256, in hex, of the value as canonical JSON."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def source_fingerprint(*modules: ModuleType | str) -> str:
    """SHA-256 over the source of modules and of whole packages, so that new code is a new key.

    A module given by name is found without being imported.
    """
    fingerprint = hashlib.sha256()
    for module in modules:
        name = module if isinstance(module, str) else module.__name__
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"module {name!r} has no source file to fingerprint")
        origin = Path(spec.origin)
        is_package = spec.submodule_search_locations is not None
        for path in sorted(origin.parent.rglob("*.py")) if is_package else [origin]:
            fingerprint.update(f"{name}:{path.relative_to(origin.parent).as_posix()}\0".encode())
            fingerprint.update(hashlib.sha256(path.read_bytes()).digest())
    return fingerprint.hexdigest()


def _plain(value: Any) -> Any:
    """The value in JSON's own types; what has no one obvious form there is refused."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a cache key holds only finite numbers; got {value}")
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Two classes with the same fields mean different things.
        named = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, "fields": _plain(named)}
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError(f"the names in a cache key are strings; got {list(value)}")
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise ValueError(f"a cache key cannot hold a {type(value).__name__}: {value!r}")


def _sizes(folder: Path) -> dict[str, int]:
    """Size in bytes of every file below the folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _is_whole(entry: Path) -> bool:
    """Whether the entry has its manifest and every file at the size that the manifest states."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        expected = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    actual = _sizes(entry)
    return all(actual.get(name) == size for name, size in expected.items())
