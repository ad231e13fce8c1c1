"""Tiny books to order, and the shelf of real ones where it is present."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">
  <rootfiles><rootfile full-path="OPS/package.opf"/></rootfiles>
</container>"""

PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">
<head><title>page</title></head>{body}</html>"""

MakeEpub = Callable[..., Path]


def package(
    names: list[str], title: str, author: str, extra_items: str, guide: str, toc: str
) -> str:
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(names)
    )
    refs = "".join(f'<itemref idref="i{n}"/>' for n in range(len(names)))
    return f"""<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>{title}</dc:title><dc:creator>{author}</dc:creator></metadata>
<manifest>{items}{extra_items}</manifest><spine{toc}>{refs}</spine><guide>{guide}</guide>
</package>"""


def ncx(points: Mapping[str, str]) -> str:
    rows = "".join(
        f'<navPoint><navLabel><text>{label}</text></navLabel><content src="{href}"/></navPoint>'
        for href, label in points.items()
    )
    return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{rows}</navMap></ncx>'


@pytest.fixture
def make_epub(tmp_path: Path) -> MakeEpub:
    """An EPUB from bodies in spine order: {"one.xhtml": "<body>...</body>"}."""

    def make(
        bodies: Mapping[str, str],
        *,
        name: str = "book.epub",
        title: str = "The Small Book",
        author: str = "Ann Author",
        contents: Mapping[str, str] | None = None,
        extra: Mapping[str, str | bytes] | None = None,
        extra_items: str = "",
        guide: str = "",
    ) -> Path:
        path = tmp_path / name
        toc = ' toc="ncx"' if contents else ""
        if contents:
            extra_items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mimetype", "application/epub+zip")
            archive.writestr("META-INF/container.xml", CONTAINER)
            archive.writestr(
                "OPS/package.opf", package(list(bodies), title, author, extra_items, guide, toc)
            )
            for document, body in bodies.items():
                archive.writestr(f"OPS/{document}", PAGE.replace("{body}", body))
            if contents:
                archive.writestr("OPS/toc.ncx", ncx(contents))
            for member, content in (extra or {}).items():
                archive.writestr(member, content)
        return path

    return make


@pytest.fixture
def two_chapters() -> dict[str, str]:
    return {
        f"{n}.xhtml": f"<body><h1>Chapter {n}</h1><p>The {n}. tale begins here.</p></body>"
        for n in (1, 2)
    }


@pytest.fixture(scope="session")
def shared_books() -> Path:
    """Novels in two forms, in a `shared` folder beside the repository."""
    folder = Path(__file__).resolve().parents[3].parent / "shared" / "books"
    if not folder.is_dir():
        pytest.skip("needs real books in ../shared/books, beside the repository")
    return folder
