"""EPUBs that do not say what their parts are: headings and the table of contents have to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from envs.books.blocks import Block, join_titles, read_blocks
from envs.books.division import Division, words_of
from envs.books.headings import Family, Heading, parse_heading
from envs.books.identity import slug
from envs.books.licence import strip_licence_blocks
from envs.books.matter import matter_by_name
from envs.books.package import Package, Target

# A heading in a plain EPUB that stands lower than its chapters' headings divides a chapter.
_DEEPEST_LEVEL = 6
_GUIDE_PAGES = {
    "cover": "the cover",
    "title-page": "a title page",
    "toc": "a table of contents",
    "copyright-page": "a copyright notice",
    "dedication": "a dedication",
    "epigraph": "an epigraph",
    "acknowledgements": "acknowledgments",
    "colophon": "a colophon",
    "index": "an index",
    "glossary": "a glossary",
    "notes": "notes",
}


@dataclass
class _Unit:
    """A heading with the paragraphs that follow it, up to the next heading."""

    title: str
    level: int
    document: str
    in_contents: bool = False
    paragraphs: list[str] = field(default_factory=list)

    @property
    def heading(self) -> Heading | None:
        return parse_heading(self.title)


def divide_plain(documents: list[tuple[str, Element]], package: Package) -> Division:
    """Chapters from (name, body) pairs in spine order."""
    units = _merge_titles(_cut(documents, package.contents))
    level = _chapter_level(units)
    division = Division()
    is_open = False  # whether headless text goes on with the chapter before it
    for unit in units:
        reason = _why_not(unit, package)
        if reason:
            _leave_out(division, unit, reason)
            is_open = False
        elif _is_part(unit) and level is not None:
            division.open_part(unit.title)
            is_open = False
        elif _starts_chapter(unit, level):
            named = unit.heading is not None and unit.heading.family is Family.NAMED
            division.add_chapter(unit.title, unit.paragraphs, in_part=not named)
            is_open = bool(unit.paragraphs)
        elif is_open:
            heading = [unit.title] if unit.title else []
            division.extend_chapter([*heading, *unit.paragraphs])
        else:
            _leave_out(division, unit, "stands outside the chapters")
    return division


def _cut(documents: list[tuple[str, Element]], contents: Sequence[Target]) -> list[_Unit]:
    """One unit per document start, heading and target of the table of contents."""
    labels = {(target.document, target.anchor): target.label for target in contents}
    blocks = [(name, block) for name, body in documents for block in read_blocks(body)]
    units: list[_Unit] = []
    started: set[str] = set()
    for name, block in strip_licence_blocks(blocks):
        label = _label_of(name, block, name not in started, labels)
        if block.is_heading:
            units.append(_Unit(block.text, block.level, name, label is not None))
        elif _heading_in_prose(block):
            units.append(_Unit(block.text, _DEEPEST_LEVEL, name, label is not None))
        else:
            if label is not None:
                units.append(_Unit(label, _DEEPEST_LEVEL, name, True))
            elif name not in started:
                units.append(_Unit("", _DEEPEST_LEVEL, name))
            units[-1].paragraphs.append(block.text)
        started.add(name)
    return units


def _label_of(
    name: str, block: Block, is_first: bool, labels: dict[tuple[str, str], str]
) -> str | None:
    for anchor in block.anchors:
        if (name, anchor) in labels:
            return labels[name, anchor]
    return labels.get((name, "")) if is_first else None


def _heading_in_prose(block: Block) -> Heading | None:
    """The heading that a paragraph really is: `CHAPTER IV` set as an ordinary paragraph."""
    heading = parse_heading(" ".join(block.text.split()))
    return heading if heading and heading.family in (Family.WORD, Family.PART) else None


def _merge_titles(units: list[_Unit]) -> list[_Unit]:
    """Headings with nothing between them make one title; a part's stays by itself."""
    merged: list[_Unit] = []
    for unit in units:
        before = merged[-1] if merged else None
        joins = (
            before is not None
            and not before.paragraphs
            and before.title
            and unit.title
            and before.document == unit.document
            and before.heading is not None
            and unit.heading is None
            and not matter_by_name(unit.title)
        )
        if before is not None and joins:
            before.title = join_titles([before.title, unit.title])
            before.paragraphs = unit.paragraphs
            before.in_contents |= unit.in_contents
        else:
            merged.append(unit)
    return merged


def _chapter_level(units: Sequence[_Unit]) -> int | None:
    """The level at which headings announce chapters, or None where no heading does."""
    levels = Counter(
        unit.level
        for unit in units
        if unit.heading is not None and not _is_part(unit) and unit.paragraphs
    )
    if sum(levels.values()) < 2:
        return None
    return max(levels, key=lambda level: (levels[level], -level))


def _is_part(unit: _Unit) -> bool:
    return unit.heading is not None and unit.heading.family is Family.PART


def _starts_chapter(unit: _Unit, level: int | None) -> bool:
    if not unit.title:
        return False
    if level is None:  # no numbered chapters: the table of contents or any heading will do
        return bool(unit.paragraphs) and (unit.in_contents or unit.level < _DEEPEST_LEVEL)
    heading = unit.heading
    if heading is not None:
        return unit.level <= level or heading.family in (Family.WORD, Family.NAMED)
    return unit.in_contents and unit.level <= level and bool(unit.paragraphs)


def _why_not(unit: _Unit, package: Package) -> str | None:
    kind = package.guide.get(unit.document, "")
    if reason := _GUIDE_PAGES.get(kind):
        return reason
    if unit.title and slug(unit.title) in {slug(package.title), slug(package.author)}:
        return "a title page"
    return matter_by_name(unit.title) if unit.title else None


def _leave_out(division: Division, unit: _Unit, reason: str) -> None:
    words = words_of(unit.paragraphs)
    if unit.title or words:
        division.leave_out(unit.title or f"{unit.document} ({words} words)", reason)
