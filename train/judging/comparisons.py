"""What a judge agent is asked about: texts that several options wrote for the same item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import Field

from train.config.validate import check
from train.judging.judgments import TIE, UNANSWERED

Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """One line of a file of comparisons: an item, and what each option wrote for it."""

    item: Text
    context: str
    """What a reader has to know of the story so far."""
    options: Annotated[Mapping[Text, Text], Field(min_length=2)]
    improvements: Mapping[str, float] = field(default_factory=dict)
    """Improvement in per cent of each option's plan, where known."""


@dataclass(frozen=True)
class Comparison:
    """Two texts for one item; `options` names who wrote them."""

    item: str
    context: str
    options: tuple[str, str]
    texts: tuple[str, str]
    improvements: tuple[float, float] | None = None


def read_comparisons(path: Path) -> list[Comparison]:
    """Every pair of options of every line of a JSONL file.

    Raises:
        ValueError: a line is no such entry, or there are none; the message names the line.
    """
    try:
        # Not `splitlines`, which cuts at separators that JSON may hold within a text.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text; save it as JSONL in UTF-8") from error
    found: list[Comparison] = []
    items: set[str] = set()
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            entry = check(Entry, json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{where}: {error}; a line is a JSON object with item, context and options (two "
                "or more names, each with its text)"
            ) from error
        for name in entry.options:
            if "," in name or name != name.strip() or name in (TIE, *UNANSWERED):
                raise ValueError(f"{where}: {name!r} cannot name an option; choose another name")
        if entry.item in items:
            raise ValueError(f"{where}: item {entry.item!r} stands above already; join the two")
        items.add(entry.item)
        found += _pairs(entry)
    if not found:
        raise ValueError(f"{path}: holds no comparisons; give a JSON object per line")
    return found


def _pairs(entry: Entry) -> list[Comparison]:
    return [
        Comparison(
            entry.item,
            entry.context,
            (first, second),
            (entry.options[first], entry.options[second]),
            (entry.improvements[first], entry.improvements[second])
            if {first, second} <= set(entry.improvements)
            else None,
        )
        for first, second in combinations(sorted(entry.options), 2)
    ]
