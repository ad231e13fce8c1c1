"""What judges are asked about: texts that several options wrote for the same item.

An evaluation leaves such texts of the chapters that its generator wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from train.config.validate import check
from train.files import write_text
from train.judging.judgments import TIE, UNANSWERED

if TYPE_CHECKING:
    # Reading needs no torch.
    from train.analysis.rows import Evaluation

FILE_OF_A_RUN = "comparisons.jsonl"
NOTHING_WRITTEN = "(Nothing was written.)"
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


def write_comparisons(evaluation: Evaluation, folder: Path) -> None:
    """The chapters that the generator wrote, a line for each episode, as `comparisons.jsonl`.

    The options are the rows with whose plans it wrote, by the names that `improvements.csv` has:
    `trained greedy`, `empty_plan`. Where fewer than two wrote there is nothing to compare, and no
    file.
    """
    entries: dict[str, dict[str, Any]] = {}
    for row in evaluation.rows:
        for attempt in row.attempts:
            if attempt.chapter is None:
                continue
            sections = attempt.episode.context.known_before().sections
            context = "\n\n".join(f"{section.heading}\n{section.text}" for section in sections)
            about = {"context": context, "options": {}, "improvements": {}}
            entry = entries.setdefault(attempt.episode.episode_id, about)
            name = row.label.replace(",", " ")
            entry["options"][name] = attempt.chapter.strip() or NOTHING_WRITTEN
            entry["improvements"][name] = attempt.improvement
    lines = [
        json.dumps({"item": item, **entry}, ensure_ascii=False)
        for item, entry in entries.items()
        if len(entry["options"]) > 1
    ]
    if lines:
        write_text(folder / FILE_OF_A_RUN, "".join(f"{line}\n" for line in lines))


def read_comparisons(path: Path) -> list[Comparison]:
    """Every pair of options of every line of a JSONL file, or of that in the folder of a run.

    Raises:
        ValueError: a line is no such entry, or there are none; the message names the line.
    """
    if path.is_dir():
        path = path / FILE_OF_A_RUN
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
