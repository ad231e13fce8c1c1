"""A plain text as blocks: what stands between blank lines, with printers' marks removed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envs.books.headings import Family, parse_heading
from envs.books.prose import SCENE_BREAK

_DROPPED_NOTE = re.compile(r"(?:illustrations?|footnote|transcriber|sidenote|frontispiece)\b", re.I)
_NOTE_MARK = re.compile(r"(?<=\S)\s?(?:\[(?:\d{1,3}|[A-Z*†])\])")
_FOOTNOTE = re.compile(r"\s*(?:\[(?:\d{1,3}|[A-Z*†])\]|(?P<star>\*)(?=[A-Za-z“\"]))")
_STAR_MARK = re.compile(r"(?<=\S) ?\*(?=\s|$)")
_BREAK = re.compile(r"[\s*·•.~#—–_=-]+")
_MAX_NOTE_CHARS = 20_000
_QUOTES = "“‘\"'("


@dataclass(frozen=True)
class TextBlock:
    """Consecutive lines without a blank one between them."""

    lines: tuple[str, ...]

    @property
    def first(self) -> str:
        return self.lines[0].strip()

    @property
    def num_words(self) -> int:
        return sum(len(line.split()) for line in self.lines)

    def prose(self) -> str:
        """One paragraph: hard wraps joined, verse kept line by line, italics' marks removed."""
        lines = [line.strip() for line in self.lines]
        if all(_BREAK.fullmatch(line) for line in lines):
            return SCENE_BREAK
        joined = ("\n" if self._is_verse() else " ").join(lines)
        return _plain(joined)

    def _is_verse(self) -> bool:
        """Indented, and nearly every line starts as verse does: with a capital letter."""
        if len(self.lines) < 2 or not all(line[0].isspace() for line in self.lines):
            return False
        starts = [line.strip().lstrip(_QUOTES + "_-—")[:1] for line in self.lines]
        return sum(start.isupper() for start in starts) >= 0.8 * len(starts)


def split_blocks(text: str) -> list[TextBlock]:
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))
    blocks = (tuple(line for line in p.split("\n") if line.strip()) for p in paragraphs)
    return [TextBlock(lines) for lines in blocks if lines]


def drop_marks(text: str) -> tuple[str, dict[str, int]]:
    """The text without bracketed illustrations and notes, and how many of each were dropped."""
    dropped: dict[str, int] = {}
    kept: list[str] = []
    position = 0
    for start, end in sorted(_bracket_ends(text).items()):
        kind = _DROPPED_NOTE.match(text, start + 1)
        if start < position or kind is None:
            continue
        name = kind.group(0).lower().removesuffix("s")
        dropped[name] = dropped.get(name, 0) + 1
        kept += [text[position:start], _headings_in(text[start + 1 : end])]
        position = end + 1
    kept.append(text[position:])
    return "".join(kept), dropped


def drop_footnotes(blocks: list[TextBlock]) -> tuple[list[TextBlock], int]:
    """Blocks without the footnotes among them and the marks that lead there; how many."""
    kept: list[TextBlock] = []
    has_stars = False
    for block in blocks:
        match = _FOOTNOTE.match(block.lines[0])
        if match is None:
            kept.append(block)
        elif match.group("star"):
            has_stars = True
    num_dropped = len(blocks) - len(kept)
    return [_without_marks(block, has_stars) for block in kept], num_dropped


def _without_marks(block: TextBlock, has_stars: bool) -> TextBlock:
    # A row of stars is a scene break, not a mark.
    if all(_BREAK.fullmatch(line) for line in block.lines):
        return block
    lines = (_NOTE_MARK.sub("", line) for line in block.lines)
    if has_stars:
        lines = (_STAR_MARK.sub("", line) for line in lines)
    return TextBlock(tuple(lines))


def _bracket_ends(text: str) -> dict[int, int]:
    """Where each bracket closes; one that never does, or only pages later, is no note."""
    ends: dict[int, int] = {}
    open_starts: list[int] = []
    for match in re.finditer(r"[\[\]]", text):
        if match.group() == "[":
            open_starts.append(match.start())
        elif open_starts:
            start = open_starts.pop()
            if match.start() - start <= _MAX_NOTE_CHARS:
                ends[start] = match.start()
    return ends


def _headings_in(note: str) -> str:
    """Some editions print a chapter's heading inside its illustration; it must survive."""
    for line in note.splitlines()[1:]:
        heading = parse_heading(line)
        if heading and heading.family is Family.WORD:
            return f"\n\n{line.strip()}\n\n"
    return ""


def _plain(text: str) -> str:
    text = re.sub(r"(?<!_)_(?!_)", "", text)
    text = re.sub(r"(?<![^\s“‘(])=(\S(?:[^=]*\S)?)=(?!\w)", r"\1", text)
    return re.sub(r"(?<!-)--(?!-)", "—", text)
