"""EPUB files: the chapters of a book in spine order, front and back matter left out."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from envs.books.archive import Archive, Limits
from envs.books.division import Division
from envs.books.epub_plain import divide_plain
from envs.books.epub_typed import divide_typed, says_what_it_is
from envs.books.errors import BookError
from envs.books.found import FoundBook, found_book
from envs.books.markup import find_all, parse_xml
from envs.books.package import Package, read_package


def read_epub(path: Path, limits: Limits | None = None) -> FoundBook:
    """The book in an EPUB 2 or 3 file. The file is untrusted: see `Archive` and `parse_xml`."""
    try:
        with Archive(path, limits) as archive:
            package = read_package(archive)
            documents = [(name, _body(archive, name)) for name in package.spine]
            division = _divide(documents, package)
    except RecursionError as error:
        raise BookError(
            path, "its markup is nested too deeply", "Convert it in an e-book editor"
        ) from error
    for name in package.asides:
        division.leave_out(name, "outside the reading order")
    title = package.title or path.stem
    return found_book(path, title, package.author, division.chapters, division.left_out)


def _divide(documents: list[tuple[str, Element]], package: Package) -> Division:
    if says_what_it_is([body for _, body in documents]):
        return divide_typed(documents)
    return divide_plain(documents, package)


def _body(archive: Archive, name: str) -> Element:
    root = parse_xml(archive.read(name), archive.path, name)
    return next(iter(find_all(root, "body")), root)
