"""Project Gutenberg's header, footer and licence, in the wordings of thirty years."""

from __future__ import annotations

import re

from envs.books.blocks import Block

_NAME = r"(?:THE |THIS )?PROJECT GUTENBERG(?:[’']S)?"
_START = re.compile(
    rf"^[ \t]*\*+[ \t]*START OF {_NAME}.*?(?:\*{{3}}|\n[ \t]*\n)|"
    r"^\*END[* ]*THE SMALL PRINT.*?$",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_END = re.compile(rf"^[ \t]*\**[ \t]*END OF {_NAME}.*", re.IGNORECASE | re.MULTILINE)
_HEADER_LINES = 120


def split_licence(text: str) -> tuple[str, str]:
    """(header, body): what stands before the text and the text without header and footer."""
    starts = list(_START.finditer(text))
    # The small print of the nineties comes before a START line where a text has both.
    start = starts[-1].end() if starts else 0
    end = _END.search(text, start)
    return text[:start], text[start : end.start() if end else len(text)]


def header_field(header: str, name: str) -> str:
    """A field of the header; lines that go on are indented, as in a second title."""
    lines = header.splitlines()[:_HEADER_LINES]
    for number, line in enumerate(lines):
        if line.lower().startswith(f"{name.lower()}:"):
            value = [line.split(":", 1)[1].strip()]
            for more in lines[number + 1 :]:
                if not more.strip() or not more[0].isspace():
                    break
                value.append(more.strip())
            return "\n".join(filter(None, value))
    return ""


def strip_licence_blocks(blocks: list[tuple[str, Block]]) -> list[tuple[str, Block]]:
    """The blocks of an EPUB between the START and END lines, where it has them."""
    first, last = 0, len(blocks)
    for number, (_, block) in enumerate(blocks):
        if _START.match(block.text + "\n\n"):
            first = number + 1
        elif _END.match(block.text) and number >= first:
            last = number
            break
    return blocks[first:last]
