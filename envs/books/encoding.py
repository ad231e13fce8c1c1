"""The characters of a text file, from its byte order mark, its header or plain UTF-8."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from envs.books.errors import BookError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32's mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(
    rb"^Character set encoding:[ \t]*([A-Za-z0-9 _-]+?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_HEADER_BYTES = 8_192
# What files declare, and the codec that reads them: ISO-8859-1 in the wild is Windows-1252.
_CODECS = {
    "ascii": "cp1252",
    "usascii": "cp1252",
    "iso88591": "cp1252",
    "isolatin1": "cp1252",
    "latin1": "cp1252",
    "windows1252": "cp1252",
    "cp1252": "cp1252",
    "iso885915": "iso8859-15",
    "iso88592": "iso8859-2",
    "macroman": "mac-roman",
    "utf8": "utf-8",
    "unicodeutf8": "utf-8",
}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_REMEDY = "Save it as UTF-8"


def read_text(path: Path) -> str:
    """The text of a file. An encoding is never guessed: mark, header, UTF-8, or an error."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BookError(path, f"cannot be read ({error.strerror})", "Check its rights") from error
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _decode(path, content[len(bom) :], encoding)
    try:
        return _checked(path, content.decode("utf-8"))
    except UnicodeDecodeError:
        declared = _DECLARED.search(content[:_HEADER_BYTES])
        name = declared.group(1).decode("ascii") if declared else ""
        codec = _CODECS.get(re.sub(r"[^a-z0-9]", "", name.lower()))
        if codec is None:
            said = f"its header says {name!r}" if name else "it declares none"
            raise BookError(path, f"unknown encoding: not UTF-8, and {said}", _REMEDY) from None
        return _decode(path, content, codec)


def _decode(path: Path, content: bytes, encoding: str) -> str:
    try:
        return _checked(path, content.decode(encoding))
    except UnicodeDecodeError as error:
        raise BookError(path, f"not text in {encoding}, as it claims ({error})", _REMEDY) from error


def _checked(path: Path, text: str) -> str:
    if _CONTROL.search(text):
        raise BookError(path, "unknown encoding: it holds control characters", _REMEDY)
    return text.replace("\r\n", "\n").replace("\r", "\n")
