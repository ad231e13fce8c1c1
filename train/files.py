"""Files that are either there and whole, or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

# A disk, a share of it, or a file that may not become larger.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: Path, text: str) -> None:
    """Replaces the file in one step: a reader, or a crash, sees the old text or the new one."""
    with naming(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; these are for whoever may read the folder.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str) -> None:
    """Adds a line at the end; one that a crash or a full disk cut short spoils no other."""
    with naming(path), path.open("ab+") as file:
        file.write(end_of_torn_line(file) + line.encode("utf-8") + b"\n")


def end_of_torn_line(file: BinaryIO) -> bytes:
    """What ends the last line of the file, where it was cut short; leaves the file at its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The system names no file where a disk is full, and for a temporary one its own name."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def file_error(error: OSError) -> str | None:
    """The error's file, what is wrong with it and the remedy; None where it names no file."""
    if not (error.filename and error.strerror):
        return None
    remedy = "; make room there, then try again" if error.errno in _FULL else ""
    return f"{error.filename}: {error.strerror.lower()}{remedy}"


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def copy_folder(source: Path, target: Path) -> None:
    """Puts a copy of `source` in the place of `target`; a crash leaves no copy or a whole one."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        sync_tree(temporary)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync_tree(folder: Path) -> None:
    """Forces every file and folder below `folder` to the disk."""
    for root, _, names in os.walk(folder):
        for name in (*names, "."):
            sync(Path(root, name))


def sync(path: Path) -> None:
    """Forces a file to the disk, or what was renamed into or out of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
