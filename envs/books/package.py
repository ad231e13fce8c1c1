"""An EPUB's package: its names, the order in which it is read, and its table of contents."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from envs.books.archive import Archive
from envs.books.errors import BookError
from envs.books.markup import epub_types, find_all, local_name, parse_xml, plain_text

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Fonts may be obfuscated in a book that anyone can read.
_FONT_ALGORITHMS = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
_REMOTE_SCHEMES = {"http", "https"}


@dataclass(frozen=True)
class Target:
    """Where a line of the table of contents leads: a document, an anchor in it or none."""

    document: str
    anchor: str
    label: str


@dataclass(frozen=True)
class Package:
    """`spine` holds documents in reading order, `asides` those that a reader opens on the side.

    `guide` says what kind of page some documents are, such as `cover` or `copyright-page`.
    """

    title: str
    author: str
    spine: tuple[str, ...]
    asides: tuple[str, ...]
    contents: tuple[Target, ...]
    guide: dict[str, str]


@dataclass(frozen=True)
class _Item:
    document: str
    media_type: str
    properties: frozenset[str]


def read_package(archive: Archive) -> Package:
    _refuse_protection(archive)
    path = _package_path(archive)
    root = parse_xml(archive.read(path), archive.path, path)
    items = _read_manifest(archive, path, root)
    spine_element = next(iter(find_all(root, "spine")), None)
    if spine_element is None:
        raise BookError(archive.path, "its package has no spine", "Convert it in an e-book editor")
    spine, asides = _read_spine(archive, spine_element, items)
    return Package(
        title=_main_title(root),
        author=_author(root),
        spine=tuple(spine),
        asides=tuple(asides),
        contents=tuple(_read_contents(archive, spine_element, items)),
        guide=_read_guide(archive, path, root),
    )


def _refuse_protection(archive: Archive) -> None:
    if _ENCRYPTION not in archive:
        return
    root = parse_xml(archive.read(_ENCRYPTION), archive.path, _ENCRYPTION)
    for data in find_all(root, "encrypteddata"):
        methods = [child for child in data if local_name(child) == "encryptionmethod"]
        if (
            not all(method.get("Algorithm") in _FONT_ALGORITHMS for method in methods)
            or not methods
        ):
            raise BookError(
                archive.path,
                "its content is encrypted",
                "Use a copy of the book without protection",
            )


def _package_path(archive: Archive) -> str:
    root = parse_xml(archive.read(_CONTAINER), archive.path, _CONTAINER)
    for rootfile in find_all(root, "rootfile"):
        if href := rootfile.get("full-path"):
            return archive.resolve("", href)
    raise BookError(archive.path, f"{_CONTAINER} names no package", "Get a complete copy")


def _read_manifest(archive: Archive, path: str, root: Element) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for element in find_all(root, "item"):
        href, item_id = element.get("href"), element.get("id")
        # A remote film or sound is legal; only what is in the archive is ever read.
        if href is None or item_id is None or urlsplit(href).scheme in _REMOTE_SCHEMES:
            continue
        properties = frozenset(element.get("properties", "").split())
        media_type = element.get("media-type", "")
        items[item_id] = _Item(archive.resolve(path, href), media_type, properties)
    return items


def _read_spine(
    archive: Archive, spine: Element, items: dict[str, _Item]
) -> tuple[list[str], list[str]]:
    linear: list[str] = []
    asides: list[str] = []
    for reference in find_all(spine, "itemref"):
        item_id = reference.get("idref", "")
        if item_id not in items:
            raise BookError(
                archive.path,
                f"its spine names {item_id!r}, which its manifest does not have",
                "Convert it in an e-book editor",
            )
        item = items[item_id]
        in_order = "html" in item.media_type and reference.get("linear") != "no"
        (linear if in_order else asides).append(item.document)
    return linear, asides


def _read_contents(archive: Archive, spine: Element, items: dict[str, _Item]) -> list[Target]:
    for item in items.values():
        if "nav" in item.properties:
            root = parse_xml(archive.read(item.document), archive.path, item.document)
            navs = find_all(root, "nav")
            tocs = [nav for nav in navs if "toc" in epub_types(nav)] or navs[:1]
            links = [link for toc in tocs for link in find_all(toc, "a")]
            return [
                _target(archive, item.document, href, plain_text(link))
                for link in links
                if urlsplit(href := link.get("href", "")).scheme not in _REMOTE_SCHEMES
            ]
    ncx = items.get(spine.get("toc", ""))
    if ncx is None:
        return []
    root = parse_xml(archive.read(ncx.document), archive.path, ncx.document)
    targets = []
    for point in find_all(root, "navpoint"):
        label = next((c for c in point if local_name(c) == "navlabel"), None)
        content = next((c for c in point if local_name(c) == "content"), None)
        href = content.get("src", "") if content is not None else ""
        targets.append(_target(archive, ncx.document, href, plain_text(label)))
    return targets


def _target(archive: Archive, base: str, href: str, label: str) -> Target:
    parts = urlsplit(href)
    document = archive.resolve(base, parts.path) if parts.path else base
    return Target(document, parts.fragment, label)


def _read_guide(archive: Archive, path: str, root: Element) -> dict[str, str]:
    guide: dict[str, str] = {}
    for reference in find_all(root, "reference"):
        parts = urlsplit(reference.get("href", ""))
        if parts.path and not parts.fragment:
            guide[archive.resolve(path, parts.path)] = reference.get("type", "").lower()
    return guide


def _main_title(root: Element) -> str:
    """The title that the package calls main; else its first."""
    titles = find_all(root, "title")
    for meta in find_all(root, "meta"):
        if meta.get("property") == "title-type" and plain_text(meta) == "main":
            refined = (meta.get("refines") or "").lstrip("#")
            titles = [t for t in titles if t.get("id") == refined] or titles
    return plain_text(titles[0]) if titles else ""


def _author(root: Element) -> str:
    return "; ".join(filter(None, map(plain_text, find_all(root, "creator"))))
