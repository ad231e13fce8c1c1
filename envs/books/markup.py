"""XML from a stranger: no entity is ever declared or fetched, HTML's named ones are known."""

from __future__ import annotations

import codecs
import re
from html.entities import html5
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from envs.books.errors import BookError

EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"

_XML_ENTITIES = {"amp", "lt", "gt", "quot", "apos"}
_NAMED_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*?\?>")
_DECLARED_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?encoding=["']([A-Za-z0-9._-]+)["']""")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse_xml(content: bytes, archive_path: Path, name: str) -> Element:
    """The root of a well-formed document; entity declarations are refused, not expanded."""
    text = _DECLARATION.sub("", _decode(content, archive_path, name))
    try:
        return fromstring(_NAMED_ENTITY.sub(_expand, text), forbid_dtd=False, forbid_entities=True)
    except DefusedXmlException as error:
        raise BookError(
            archive_path,
            f"{name!r} declares XML entities, as an entity bomb does",
            "Do not trust this file; get the book from its publisher",
        ) from error
    except (ParseError, RecursionError, ValueError) as error:
        raise BookError(
            archive_path,
            f"{name!r} is not well-formed XML ({error})",
            "Repair the EPUB by converting it in an e-book editor",
        ) from error


def local_name(element: Element) -> str:
    """The tag without its namespace, in lower case; empty for comments and instructions."""
    tag = element.tag
    return tag.rsplit("}", 1)[-1].lower() if isinstance(tag, str) else ""


def epub_types(element: Element) -> frozenset[str]:
    return frozenset(element.get(EPUB_TYPE, "").split())


def find_all(root: Element, name: str) -> list[Element]:
    """All descendants of this local name, whatever their namespace, in document order."""
    return [element for element in root.iter() if local_name(element) == name]


def plain_text(element: Element | None) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _expand(match: re.Match[str]) -> str:
    name = match.group(1)
    if name in _XML_ENTITIES:
        return match.group(0)
    character = html5.get(f"{name};")
    # An unknown name stays as it is, so that the parser reports where it stands.
    return "".join(f"&#{ord(c)};" for c in character) if character else match.group(0)


def _decode(content: bytes, archive_path: Path, name: str) -> str:
    encoding = "utf-8"
    for bom, bom_encoding in _BOMS:
        if content.startswith(bom):
            content, encoding = content[len(bom) :], bom_encoding
            break
    else:
        if declared := _DECLARED_ENCODING.match(content):
            encoding = declared.group(1).decode("ascii")
    try:
        return content.decode(encoding)
    except (LookupError, UnicodeError) as error:
        raise BookError(
            archive_path,
            f"{name!r} is not text in the encoding that it declares ({encoding})",
            "Convert the EPUB in an e-book editor",
        ) from error
