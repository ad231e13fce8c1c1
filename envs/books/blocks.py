"""An XHTML element as a flat run of blocks: headings and paragraphs of clean text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from envs.books.markup import epub_types, local_name
from envs.books.prose import SCENE_BREAK, tidy

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "div", "dl", "dt", "figcaption", "figure", "footer", "form", "header", "hgroup", "li",
    "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul",
}  # fmt: skip
_DROPPED = {
    "audio", "figure", "head", "img", "map", "math", "noscript", "object", "rp", "rt",
    "script", "style", "svg", "video",
}  # fmt: skip
_MARK_TYPES = {"noteref", "backlink", "pagebreak", "footnote", "endnote", "rearnote"}
_MARK_CLASSES = {"noteref", "pagenum", "pageno", "pagebreak", "fnanchor", "footnote"}
_HEADING_TYPES = {"title", "subtitle", "ordinal", "z3998:ordinal", "fulltitle"}
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡])[\])]?")
_NOT_HEADED_LEVEL = 0
# A paragraph that the book types as part of a heading, such as a chapter's name under its number.
_TYPED_LEVEL = 6


@dataclass(frozen=True)
class Block:
    """A heading (level 1 to 6) or a paragraph (level 0); `anchors` are ids that start here."""

    text: str
    level: int = _NOT_HEADED_LEVEL
    anchors: tuple[str, ...] = ()

    @property
    def is_heading(self) -> bool:
        return self.level > _NOT_HEADED_LEVEL


def read_blocks(element: Element, skip: Sequence[Element] = ()) -> list[Block]:
    """The blocks of an element in reading order, without those of the elements in `skip`."""
    walk = _Walk(skipped={id(child) for child in skip})
    walk.visit(element)
    walk.flush()
    return walk.blocks


def split_heading(blocks: Sequence[Block]) -> tuple[str, list[Block]]:
    """The headings that open a run of blocks, joined to one title, and what follows them."""
    count = 0
    while count < len(blocks) and blocks[count].is_heading:
        count += 1
    return join_titles([block.text for block in blocks[:count]]), list(blocks[count:])


def join_titles(titles: Sequence[str]) -> str:
    """`I` and `The Cyclone` make `I: The Cyclone`."""
    joined = ""
    for title in titles:
        line = " ".join(title.split())
        if not line:
            continue
        glue = " " if joined.endswith((".", ":", "—", "?", "!")) else ": "
        joined = f"{joined}{glue}{line}" if joined else line
    return joined


@dataclass
class _Walk:
    skipped: set[int]
    blocks: list[Block] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _anchors: list[str] = field(default_factory=list)
    _level: int = _NOT_HEADED_LEVEL

    def visit(self, element: Element) -> None:
        name = local_name(element)
        if id(element) in self.skipped or not name or name in _DROPPED or _is_mark(element, name):
            # Its id may be what a table of contents points at.
            self._note_anchor(element)
        elif name == "br":
            self._text.append("\n")
        elif name == "hr":
            self.flush()
            self.blocks.append(Block(SCENE_BREAK, anchors=self._take_anchors()))
        elif name == "hgroup":
            self._visit_group(element)
        elif name in _HEADINGS or name in _BLOCKS:
            self.flush()
            self._note_anchor(element)
            self._level = _heading_level(element, name) or self._level
            self._visit_content(element, separate_cells=name == "tr")
            self.flush()
        else:
            self._note_anchor(element)
            self._visit_content(element)

    def flush(self) -> None:
        text = tidy("".join(self._text))
        level, self._level = self._level, _NOT_HEADED_LEVEL
        self._text.clear()
        if text:
            self.blocks.append(Block(text, level, self._take_anchors()))

    def _visit_content(self, element: Element, separate_cells: bool = False) -> None:
        if separate_cells:
            cells = (" ".join("".join(cell.itertext()).split()) for cell in element)
            self._text.append(" ".join(filter(None, cells)))
            return
        self._text.append(_unwrapped(element.text))
        for child in element:
            self.visit(child)
            self._text.append(_unwrapped(child.tail))

    def _visit_group(self, group: Element) -> None:
        self.flush()
        self._note_anchor(group)
        parts = [block for child in group for block in read_blocks(child)]
        levels = [block.level for block in parts if block.is_heading]
        title = join_titles([part.text for part in parts])
        if title:
            level = min(levels, default=_TYPED_LEVEL)
            self.blocks.append(Block(title, level, self._take_anchors()))

    def _note_anchor(self, element: Element) -> None:
        anchor = element.get("id") or (element.get("name") if local_name(element) == "a" else None)
        if anchor:
            self._anchors.append(anchor)

    def _take_anchors(self) -> tuple[str, ...]:
        anchors, self._anchors = tuple(self._anchors), []
        return anchors


def _heading_level(element: Element, name: str) -> int:
    if name in _HEADINGS:
        return _HEADINGS[name]
    return _TYPED_LEVEL if name == "p" and epub_types(element) & _HEADING_TYPES else 0


def _is_mark(element: Element, name: str) -> bool:
    """Whether the element marks a note or a page instead of telling the story."""
    classes = set(element.get("class", "").lower().split())
    if epub_types(element) & _MARK_TYPES or classes & _MARK_CLASSES:
        return True
    if (element.get("role") or "") in {"doc-noteref", "doc-backlink", "doc-pagebreak"}:
        return True
    links_inside = name == "sup" and any(local_name(child) == "a" for child in element.iter())
    links_itself = name == "a" and "#" in (element.get("href") or "")
    if links_inside or links_itself:
        return bool(_NOTE_MARK.fullmatch("".join(element.itertext()).strip()))
    return False


def _unwrapped(text: str | None) -> str:
    """Source line breaks are spaces; only <br/> breaks a line."""
    return re.sub(r"[ \t\r\n]+", " ", text or "")
