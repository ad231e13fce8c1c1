"""Plain texts, Project Gutenberg's above all: licence stripped, headings found, lines joined."""

from __future__ import annotations

import re
from pathlib import Path

from envs.books.blocks import join_titles
from envs.books.division import Division
from envs.books.encoding import read_text
from envs.books.errors import BookError
from envs.books.found import FoundBook, found_book
from envs.books.headings import Family
from envs.books.licence import header_field, split_licence
from envs.books.matter import matter_by_name
from envs.books.text_blocks import TextBlock, drop_footnotes, drop_marks, split_blocks
from envs.books.text_headings import Mark, find_marks

_THE_END = re.compile(
    r"the end\.?|finis\.?|"
    r"(?:the )?end of (?:the )?(?:\w+ )?(?:book|part|volume|vol|novel|story)\b.*",
    re.IGNORECASE,
)


def read_gutenberg(path: Path) -> FoundBook:
    """The book in a text file. Title and author come from its header, else from its name."""
    header, body = split_licence(read_text(path))
    text, dropped = drop_marks(body)
    blocks, num_footnotes = drop_footnotes(split_blocks(text))
    marks = find_marks(blocks)
    if not marks:
        raise BookError(
            path,
            "no chapter headings were found in this text",
            "Head each chapter with a line of its own, such as 'Chapter 1'",
        )
    division = Division()
    if header.strip():
        division.leave_out("Project Gutenberg header and licence", "not part of the book")
    _leave_out_front(division, blocks[: marks[0].start])
    _divide(division, blocks, marks)
    for name, count in dropped.items():
        division.leave_out(f"{name} ({count})", "a mark of the edition, not of the story")
    if num_footnotes:
        division.leave_out(f"footnote ({num_footnotes})", "a note to the text, not in it")
    title = _one_line(header_field(header, "Title")) or path.stem
    author = header_field(header, "Author").replace("\n", "; ")
    return found_book(path, title, author, division.chapters, division.left_out)


def _one_line(title: str) -> str:
    """A header breaks a long title, or starts its second title on a line of its own."""
    return re.sub(r"[;,:]?\n(?=or\b)", "; ", title).replace("\n", " ")


def _divide(division: Division, blocks: list[TextBlock], marks: list[Mark]) -> None:
    starts = [mark.start for mark in marks[1:]] + [len(blocks)]
    for mark, end in zip(marks, starts, strict=True):
        heading = mark.heading
        title = join_titles([heading.label, heading.title])
        own = [mark.body] if mark.body else []
        body = [*own, *blocks[mark.end : end]]
        if heading.family is Family.PART:
            division.open_part(title)
            if words := sum(block.num_words for block in body):
                division.leave_out(f"{title}: {words} words under its title", "an epigraph")
            continue
        if body and _says_the_end(body[-1]):
            division.leave_out(body.pop().first, "the printer's last line")
        if end == len(blocks):
            body = _leave_out_back(division, body)
        paragraphs = [block.prose() for block in body]
        division.add_chapter(title, paragraphs, in_part=heading.family is not Family.NAMED)


def _leave_out_front(division: Division, front: list[TextBlock]) -> None:
    named = [(n, block) for n, block in enumerate(front) if matter_by_name(block.first)]
    first = named[0][0] if named else len(front)
    if words := sum(block.num_words for block in front[:first]):
        division.leave_out(f"the first {words} words", "stand before the first chapter")
    for _, block in named:
        division.leave_out(block.first, matter_by_name(block.first) or "front matter")


def _leave_out_back(division: Division, body: list[TextBlock]) -> list[TextBlock]:
    """The last chapter's blocks, up to a heading of back matter such as NOTES."""
    for position, block in enumerate(body):
        if _says_the_end(block):
            if words := sum(b.num_words for b in body[position + 1 :]):
                division.leave_out(f"{words} words after the end", "back matter")
            return body[:position]
        is_heading = len(block.lines) == 1 and block.first.isupper()
        if is_heading and (reason := matter_by_name(block.first)):
            division.leave_out(block.first, reason)
            return body[:position]
    return body


def _says_the_end(block: TextBlock) -> bool:
    return len(block.lines) == 1 and bool(_THE_END.fullmatch(block.first.strip(" _*")))
