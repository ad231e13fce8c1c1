"""Which of a text's blocks head its chapters: contents tables recognised, one style chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from envs.books.headings import Family, Heading, looks_like_title, parse_heading
from envs.books.identity import slug
from envs.books.text_blocks import TextBlock

# Between two lines of a table of contents stands next to nothing.
_MAX_WORDS_BETWEEN_CONTENTS = 12
_MIN_CONTENTS_LINES = 3
_MAX_HEADING_LINES = 4
_CONTENTS_LINE = re.compile(
    r"\s*(?:(?:chapter|chap\.?|letter|part|book)\s+)?(?:\d{1,3}|[IVXLC]+)[.:)]?\s+\S.*", re.I
)
_CONTENTS_HEADING = re.compile(r"(?:table of )?contents\.?|index of chapters", re.I)
_CONTENTS_BLOCK = Heading(Family.BARE, "contents", None, "contents")
_PAGE_NUMBER = re.compile(r"[\s.]*\d*\s*$")


@dataclass(frozen=True)
class Mark:
    """A heading in the text: blocks `start` up to `end` are the heading itself.

    `body` holds prose that the block of the heading goes on with, without a blank line.
    """

    heading: Heading
    start: int
    end: int
    body: TextBlock | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        return self.heading.kind or self.heading.family.value, self.heading.number


def find_marks(blocks: Sequence[TextBlock]) -> list[Mark]:
    """The headings of chapters and parts, in order; lines of the contents if none has a number."""
    marks = _outside_contents(_candidates(blocks), blocks)
    worded = [m for m in marks if m.heading.family in (Family.WORD, Family.NAMED)]
    if sum(m.heading.family is Family.WORD for m in worded) >= 2:
        return _in_order([*worded, *_parts(marks)])
    named = [m for m in marks if m.heading.family is Family.NAMED]
    for family in (Family.TITLED, Family.BARE):
        numbered = _counting_up([m for m in marks if m.heading.family in (family, Family.PART)])
        if sum(m.heading.family is family for m in numbered) >= 2:
            return _in_order([*numbered, *named])
    if len(_parts(marks)) >= 2:
        return _in_order([*_as_chapters(_parts(marks)), *named])
    return _from_contents(blocks) or _in_order(worded)


def _in_order(marks: list[Mark]) -> list[Mark]:
    return sorted(marks, key=lambda mark: mark.start)


def _parts(marks: Sequence[Mark]) -> list[Mark]:
    return [mark for mark in marks if mark.heading.family is Family.PART]


def _as_chapters(parts: list[Mark]) -> list[Mark]:
    return [replace(m, heading=replace(m.heading, family=Family.WORD)) for m in parts]


def _candidates(blocks: Sequence[TextBlock]) -> list[Mark]:
    marks: list[Mark] = []
    position = 0
    while position < len(blocks):
        if _is_contents(blocks[position]):
            mark = Mark(_CONTENTS_BLOCK, position, position + 1)
        else:
            mark = _read_mark(blocks, position)
        if mark is not None:
            marks.append(mark)
        position = mark.end if mark else position + 1
    return marks


def _read_mark(blocks: Sequence[TextBlock], position: int) -> Mark | None:
    block = blocks[position]
    heading = parse_heading(block.first)
    if heading is None:
        return None
    rest = block.lines[1:]
    if heading.family in (Family.BARE, Family.TITLED, Family.NAMED) and len(rest) >= 2:
        return None  # prose or verse that begins with a number
    if len(rest) >= _MAX_HEADING_LINES or (rest and not _continues_title(rest)):
        return Mark(heading, position, position + 1, TextBlock(rest))
    if rest:
        title = " ".join(line.strip() for line in rest)
        joined = " ".join(filter(None, (heading.title, title)))
        return Mark(replace(heading, title=_unmarked(joined)), position, position + 1)
    if not heading.title and _is_title_block(blocks, position + 1):
        title = " ".join(line.strip() for line in blocks[position + 1].lines)
        return Mark(replace(heading, title=_unmarked(title)), position, position + 2)
    return Mark(replace(heading, title=_unmarked(heading.title)), position, position + 1)


def _continues_title(lines: Sequence[str]) -> bool:
    text = " ".join(line.strip() for line in lines)
    return len(text.split()) <= 25 and parse_heading(lines[0]) is None


def _is_title_block(blocks: Sequence[TextBlock], position: int) -> bool:
    """A short block under a number is its title when prose follows it."""
    if position + 1 >= len(blocks):
        return False
    block = blocks[position]
    text = " ".join(line.strip() for line in block.lines)
    if len(block.lines) > 2 or parse_heading(block.first) is not None:
        return False
    return looks_like_title(text)


def _is_contents(block: TextBlock) -> bool:
    """A block of numbered lines, one under the other."""
    lines = [line for line in block.lines if _CONTENTS_LINE.fullmatch(line)]
    return len(lines) >= _MIN_CONTENTS_LINES and 2 * len(lines) >= len(block.lines)


def _outside_contents(marks: list[Mark], blocks: Sequence[TextBlock]) -> list[Mark]:
    """Marks without the lines of a table of contents, where nothing stands between two lines."""
    kept: list[Mark] = []
    start = 0
    while start < len(marks):
        end = start
        while end < len(marks) and _words_after(marks, end, blocks) <= _MAX_WORDS_BETWEEN_CONTENTS:
            end += 1
        run = marks[start:end]
        while run and run[-1].heading.family is Family.PART:
            run.pop()  # a part's title page before the first chapter, not the end of the contents
        # A preface may follow the table; its last line then has words after it.
        rest = marks[start + len(run) :]
        if run and rest and _is_last_line(run, rest[0], rest[1:]):
            run.append(rest[0])
        if len(run) >= _MIN_CONTENTS_LINES or any(m.heading is _CONTENTS_BLOCK for m in run):
            start += len(run)
        else:
            kept += marks[start : end + 1]
            start = end + 1
    return [mark for mark in kept if mark.heading is not _CONTENTS_BLOCK]


def _is_last_line(run: list[Mark], mark: Mark, later: list[Mark]) -> bool:
    before, number = run[-1].heading.number, mark.heading.number
    follows = before is not None and number == before + 1
    return (follows or number is None) and any(other.key == mark.key for other in later)


def _words_after(marks: Sequence[Mark], number: int, blocks: Sequence[TextBlock]) -> int:
    mark = marks[number]
    end = marks[number + 1].start if number + 1 < len(marks) else len(blocks)
    own = mark.body.num_words if mark.body else 0
    return own + sum(block.num_words for block in blocks[mark.end : end])


def _counting_up(marks: list[Mark]) -> list[Mark]:
    """Numbered marks that count 1, 2, 3, again from 1 after a part; stray numbers are dropped."""
    kept: list[Mark] = []
    last, may_restart = 0, False
    for mark in marks:
        if mark.heading.family is Family.PART:
            may_restart = True
            kept.append(mark)
        elif (number := mark.heading.number) == last + 1 or (number == 1 and may_restart):
            last, may_restart = number or 0, False
            kept.append(mark)
    return kept


def _from_contents(blocks: Sequence[TextBlock]) -> list[Mark]:
    """Headings without numbers: the lines of the contents that stand alone later in the text."""
    start = next(
        (n for n, block in enumerate(blocks) if _CONTENTS_HEADING.fullmatch(block.first)), None
    )
    if start is None:
        return []
    position = start if len(blocks[start].lines) > 1 else start + 1
    titles: set[str] = set()
    while position < len(blocks):
        lines = [slug(_PAGE_NUMBER.sub("", line)) for line in blocks[position].lines]
        if titles & set(lines) or any(len(line.split()) > 12 for line in blocks[position].lines):
            break
        titles.update(filter(None, lines))
        position += 1
    return [
        Mark(Heading(Family.WORD, "titled", None, blocks[n].first), n, n + 1)
        for n in range(position, len(blocks))
        if len(blocks[n].lines) == 1 and slug(blocks[n].first) in titles
    ]


def _unmarked(title: str) -> str:
    return title.replace("_", "").strip()
