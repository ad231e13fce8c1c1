"""Character sheets after CHIRON: statements about people, kept only where their text proves them.

Source: Gurung & Lapata 2024, "CHIRON: Rich Character Representations in Long-Form Narratives".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.collaboration.agreement import overlap
from envs.types import Reply
from train.preparing.desk import Desk
from train.preparing.entailment import Claim, Entailment
from train.preparing.people import cast_of, listed_names
from train.preparing.scribe import Scribe
from train.preparing.settings import SheetConfig

# Beyond so many statements an answer is taken to have run away.
_MOST_STATEMENTS_AT_ONCE = 30
# Of two statements that share so much of their words, the later one is kept.
_SAME = 0.8


@dataclass(frozen=True)
class Statement:
    """What a piece of a chapter is said to show of a person, under the name that it uses there."""

    name: str
    category: str
    text: str


@dataclass(frozen=True)
class ChapterCast:
    """Who is in a chapter, and what it proves of them."""

    names: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()


def read_chapters(
    chapters: Sequence[Sequence[str]],
    scribe: Scribe,
    checks: Desk[Claim],
    entailment: Entailment,
    config: SheetConfig,
    counts: Counter[str],
) -> list[ChapterCast]:
    """The cast of each chapter, given in pieces; a statement is checked against its own piece."""
    places = [(n, piece) for n, pieces in enumerate(chapters) for piece in pieces]
    texts = [piece for _, piece in places]
    listed = scribe.ask("characters", texts)
    names = [listed_names(reply.text, piece) for reply, piece in zip(listed, texts, strict=True)]
    asked = [
        (chapter, piece, name)
        for (chapter, piece), own in zip(places, names, strict=True)
        for name in own[: config.max_listed]
    ]
    said = scribe.ask("statements", [p for _, p, _ in asked], [{"name": n} for _, _, n in asked])
    claimed = [
        (chapter, piece, statement)
        for (chapter, piece, name), reply in zip(asked, said, strict=True)
        for statement in statements_in(reply, name, scribe.wording.categories, counts)
    ]
    verdicts = checks.ask("verdict", [Claim(piece, s.text) for _, piece, s in claimed])
    kept: list[list[Statement]] = [[] for _ in chapters]
    for (chapter, _, statement), verdict in zip(claimed, verdicts, strict=True):
        is_proved = None if verdict.failure else entailment.is_proved(verdict)
        counts[{True: "kept", False: "dropped", None: "unclear"}[is_proved]] += 1
        if is_proved:
            kept[chapter].append(statement)
    in_chapter: list[dict[str, None]] = [{} for _ in chapters]
    for (chapter, _), own in zip(places, names, strict=True):
        in_chapter[chapter].update(dict.fromkeys(own))
    return [
        ChapterCast(tuple(own), tuple(proved)) for own, proved in zip(in_chapter, kept, strict=True)
    ]


def statements_in(
    reply: Reply, name: str, categories: Mapping[str, str], counts: Counter[str]
) -> list[Statement]:
    """The statements of an answer: lines that begin with a category. Others are counted."""
    form = re.compile(rf"^\W*({'|'.join(map(re.escape, categories))})\W*:\W*(.+)$", re.IGNORECASE)
    by_name = {category.lower(): category for category in categories}
    lines = [line.strip() for line in reply.text.splitlines() if line.strip()]
    if reply.truncated:
        # Its last line may end in the middle.
        lines = lines[:-1]
    found: list[Statement] = []
    for line in lines:
        match = form.match(line)
        if match and len(found) == _MOST_STATEMENTS_AT_ONCE:
            counts["too_many"] += 1
        elif match and match.group(2).strip("*_ .").upper() != "NONE":
            text = match.group(2).strip("*_ ")
            found.append(Statement(name, by_name[match.group(1).lower()], text))
        elif not match and line.strip("*_ .").upper() != "NONE":
            counts["unread_lines"] += 1
    counts["written"] += len(found)
    return found


def sheets(chapters: Sequence[ChapterCast], config: SheetConfig) -> dict[str, str]:
    """The sheets of those who matter most in these chapters, by name."""
    found: dict[str, str] = {}
    for who, names in cast_of([chapter.names for chapter in chapters]).items():
        if len(found) == config.num_characters:
            break
        own = [s for chapter in chapters for s in chapter.statements if s.name in names]
        if own:
            found[who] = _sheet(own, config.max_statements)
    return found


def _sheet(statements: Sequence[Statement], most: int) -> str:
    """Statements by category, the latest so many of each, none of them twice."""
    by_category: dict[str, list[str]] = {}
    for statement in reversed(statements):
        kept = by_category.setdefault(statement.category, [])
        is_new = all(overlap(statement.text, other) < _SAME for other in kept)
        if is_new and len(kept) < most:
            kept.append(statement.text)
    return "\n".join(
        f"{category}: {' '.join(reversed(by_category[category]))}"
        for category in sorted(by_category)
    )
