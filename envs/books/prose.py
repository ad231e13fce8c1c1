"""Clean prose: one way to write spaces, breaks and paragraphs, whatever the file was."""

from __future__ import annotations

import re
from collections.abc import Iterable

SCENE_BREAK = "* * *"

# Word joiners, soft hyphens, byte order marks; hair and thin spaces only separate quotation marks.
_INVISIBLE = dict.fromkeys(map(ord, "\u2060\u00ad\ufeff\u200b\u200c\u200d\u200a\u2009"))


def tidy(text: str) -> str:
    """Lines without invisible characters and without runs of spaces; line breaks stay."""
    visible = text.translate(_INVISIBLE)
    lines = (" ".join(line.split()) for line in re.split(r"\r\n|\r|\n", visible))
    return "\n".join(line for line in lines if line)


def join_paragraphs(paragraphs: Iterable[str]) -> str:
    """Paragraphs with a blank line between them; scene breaks only where they divide prose."""
    kept: list[str] = []
    for paragraph in filter(None, map(tidy, paragraphs)):
        if paragraph == SCENE_BREAK and (not kept or kept[-1] == SCENE_BREAK):
            continue
        kept.append(paragraph)
    while kept and kept[-1] == SCENE_BREAK:
        kept.pop()
    return "\n\n".join(kept)


def count_words(text: str) -> int:
    return len(text.split())
