"""EPUBs that say what each of their parts is (`epub:type`), as Standard Ebooks does."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from envs.books.blocks import read_blocks, split_heading
from envs.books.division import MIN_WORDS_OF_A_CHAPTER, Division, words_of
from envs.books.markup import epub_types, local_name
from envs.books.matter import FRAME_TYPES, matter_by_name, matter_by_type

_STORY_TYPES = {"chapter", "prologue", "epilogue", "preamble", "conclusion", "se:short-story"}
# These stand before or after the parts, not in them.
_OUTSIDE_PARTS = {"prologue", "epilogue", "preamble", "conclusion"} | set(FRAME_TYPES)
_PART_TYPES = {"part", "volume", "division"}
_DIVIDING_TAGS = {"body", "section", "article", "div", "nav"}


@dataclass(frozen=True)
class _Setting:
    """What the elements around a division say about it."""

    fiction: bool = False
    region: str = ""  # frontmatter, bodymatter or backmatter


def says_what_it_is(bodies: list[Element]) -> bool:
    """Whether a book marks at least two of its parts as chapters."""
    chapters = (
        element
        for body in bodies
        for element in body.iter()
        if local_name(element) in _DIVIDING_TAGS and epub_types(element) & _STORY_TYPES
    )
    return sum(1 for _ in chapters) >= 2


def divide_typed(documents: list[tuple[str, Element]]) -> Division:
    """Chapters from (name, body) pairs in spine order."""
    division = Division()
    for name, body in documents:
        _visit(body, _Setting(), division, name)
    return division


def _visit(element: Element, around: _Setting, division: Division, name: str) -> None:
    types = epub_types(element)
    setting = _enter(types, around)
    reason = matter_by_type(types, setting.fiction)
    inner = _inner_divisions(element)
    if reason:
        division.leave_out(_heading_of(element) or name, reason)
    elif types & _STORY_TYPES or (types & set(FRAME_TYPES) and setting.fiction):
        title, blocks = split_heading(read_blocks(element))
        paragraphs = [block.text for block in blocks]
        division.add_chapter(title, paragraphs, in_part=not types & _OUTSIDE_PARTS)
    elif types & _PART_TYPES:
        _visit_part(element, inner, setting, division, name)
    elif inner:
        for child in inner:
            _visit(child, setting, division, name)
    else:
        _visit_untyped(element, setting, division, name)


def _visit_part(
    element: Element, inner: list[Element], setting: _Setting, division: Division, name: str
) -> None:
    heading, blocks = split_heading(read_blocks(element, skip=inner))
    prose = [block.text for block in blocks]
    if not inner and words_of(prose) >= MIN_WORDS_OF_A_CHAPTER:
        division.part = ""
        division.add_chapter(heading, prose)
        return
    division.open_part(heading or name)
    if words_of(prose):
        division.leave_out(f"{heading}: {words_of(prose)} words under its title", "an epigraph")
    for child in inner:
        _visit(child, setting, division, name)


def _visit_untyped(element: Element, setting: _Setting, division: Division, name: str) -> None:
    """A document that says nothing about itself, in a book that else does."""
    title, blocks = split_heading(read_blocks(element))
    paragraphs = [block.text for block in blocks]
    if setting.region in {"frontmatter", "backmatter"} and not setting.fiction:
        where = "front" if setting.region == "frontmatter" else "back"
        division.leave_out(title or name, matter_by_name(title) or f"{where} matter")
    elif reason := matter_by_name(title):
        division.leave_out(title, reason)
    elif title or not division.chapters:
        _add_if_long(division, title or name, paragraphs)
    elif paragraphs:
        division.extend_chapter(paragraphs)


def _add_if_long(division: Division, title: str, paragraphs: list[str]) -> None:
    if words_of(paragraphs) >= MIN_WORDS_OF_A_CHAPTER:
        division.add_chapter(title, paragraphs)
    else:
        division.leave_out(title, "a short page that is not marked as a chapter")


def _enter(types: frozenset[str], around: _Setting) -> _Setting:
    fiction = around.fiction
    if "z3998:non-fiction" in types:
        fiction = False
    elif "z3998:fiction" in types:
        fiction = True
    regions = types & {"frontmatter", "bodymatter", "backmatter"}
    return _Setting(fiction, next(iter(regions), around.region))


def _inner_divisions(element: Element) -> list[Element]:
    """The nearest descendants that say what they are."""
    found = []
    for child in element:
        types = epub_types(child)
        known = types & (_STORY_TYPES | _PART_TYPES) or matter_by_type(types, fiction=False)
        if local_name(child) in _DIVIDING_TAGS and known:
            found.append(child)
        elif local_name(child) in _DIVIDING_TAGS:
            found += _inner_divisions(child)
    return found


def _heading_of(element: Element) -> str:
    return split_heading(read_blocks(element))[0]
