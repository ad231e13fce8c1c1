"""A zip archive from a stranger: every read is bounded, every name stays inside."""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from envs.books.errors import BookError

_CHUNK_BYTES = 1 << 16
_ENCRYPTED_FLAG = 0x1


@dataclass(frozen=True)
class Limits:
    """What a book may weigh. A novel unpacks to a few MiB, 4 to 8 times its size."""

    max_members: int = 10_000
    max_member_bytes: int = 64 << 20
    max_total_bytes: int = 1 << 30
    max_ratio: int = 200
    # Below this size a high ratio is harmless: a short run of blanks reaches any ratio.
    ratio_free_bytes: int = 1 << 20


class Archive:
    """A zip file whose members are read whole, under limits on the bytes really unpacked."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._unpacked_bytes = 0
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise self._damaged(error) from error
        try:
            self._check_declared()
        except BookError:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """The member's bytes, counted while they are unpacked."""
        info = self._zip.NameToInfo.get(name)
        if info is None:
            raise BookError(
                self.path, f"the EPUB names {name!r} but does not hold it", "Get a complete copy"
            )
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise BookError(
                self.path, f"{name!r} is encrypted", "Use a copy of the book without protection"
            )
        content = bytearray()
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    content += chunk
                    self._unpacked_bytes += len(chunk)
                    self._check_member(name, len(content), info.compress_size)
                    self._check_total(self._unpacked_bytes)
        except BookError:
            raise
        except (zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError) as error:
            raise self._damaged(error) from error
        except RuntimeError as error:  # zipfile's word for encryption that it cannot undo
            raise BookError(
                self.path, f"{name!r} cannot be unpacked: {error}", "Use a copy without protection"
            ) from error
        return bytes(content)

    def resolve(self, base: str, href: str) -> str:
        """The member that `href` means in the member `base`; leaving the archive is an error."""
        parts = urlsplit(href)
        target = unquote(parts.path)
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(base), target))
        outside = (
            parts.scheme
            or parts.netloc
            or target.startswith("/")
            or "\\" in target
            or re.match(r"[A-Za-z]:", target)
            or joined.split("/")[0] == ".."
        )
        if outside:
            raise BookError(
                self.path,
                f"its manifest points outside the archive: {href!r}",
                "Do not trust this file; get the book from its publisher",
            )
        return joined

    def _check_declared(self) -> None:
        infos = self._zip.infolist()
        if len(infos) > self.limits.max_members:
            raise self._bomb(f"{len(infos):,} members, more than {self.limits.max_members:,}")
        for info in infos:
            self._check_member(info.filename, info.file_size, info.compress_size)
        self._check_total(sum(info.file_size for info in infos))

    def _check_member(self, name: str, size_bytes: int, packed_bytes: int) -> None:
        if size_bytes > self.limits.max_member_bytes:
            raise self._bomb(
                f"{name!r} unpacks to more than {self.limits.max_member_bytes:,} bytes"
            )
        ratio = size_bytes / max(packed_bytes, 1)
        if size_bytes > self.limits.ratio_free_bytes and ratio > self.limits.max_ratio:
            raise self._bomb(
                f"{name!r} unpacks to more than {self.limits.max_ratio} times its size"
            )

    def _check_total(self, size_bytes: int) -> None:
        if size_bytes > self.limits.max_total_bytes:
            raise self._bomb(f"it unpacks to more than {self.limits.max_total_bytes:,} bytes")

    def _bomb(self, what: str) -> BookError:
        return BookError(
            self.path, f"refused as a zip bomb: {what}", "Do not trust this file; get another copy"
        )

    def _damaged(self, error: Exception) -> BookError:
        return BookError(
            self.path, f"not a whole EPUB, truncated or damaged ({error})", "Download it again"
        )
