"""Rows of the published next-chapter dataset: each is an episode, not a book.

Source of the fields and their order in the prompt: Gurung & Lapata 2025, arXiv 2503.22828.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envs.books.errors import BookError
from envs.books.jsonl import read_records
from envs.types import Chapter, Episode, Section, StoryContext

_REQUIRED = ("story_id", "chapter_index", "next_chapter")
_REMEDY = "Give each row the published fields, 'story_id', 'chapter_index' and 'next_chapter' first"


def is_published_row(record: object) -> bool:
    return isinstance(record, Mapping) and "next_chapter" in record


def read_published_episodes(path: str | Path) -> list[Episode]:
    """The episodes in a JSONL file of the published fields, in the file's order."""
    return episodes_from_rows(str(path), read_records(Path(path)))


def episodes_from_rows(source: str, rows: Iterable[tuple[str, object]]) -> list[Episode]:
    """Episodes from (where, row) pairs; no two may have the same id."""
    episodes: list[Episode] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        episode = _episode(f"{source} ({where})", row)
        if episode.episode_id in seen:
            raise BookError(
                source,
                f"{seen[episode.episode_id]} and {where} both are episode {episode.episode_id!r}",
                "Keep one of the two",
            )
        seen[episode.episode_id] = where
        episodes.append(episode)
    return episodes


def _episode(place: str, row: object) -> Episode:
    if not isinstance(row, Mapping):
        raise BookError(place, f"the row is a {type(row).__name__}, not an object", _REMEDY)
    missing = [name for name in _REQUIRED if row.get(name) in (None, "")]
    if missing:
        raise BookError(place, f"the row has no {', '.join(map(repr, missing))}", _REMEDY)
    text = _text(row["next_chapter"]).strip()
    if not text:
        raise BookError(place, "'next_chapter' is empty", _REMEDY)
    header = _text(row.get("next_chapter_header")).strip()
    # `story_text` stays outside: it is the text of the whole story, the gold chapter included.
    sections = (
        Section("Story outline", _text(row.get("high_level_plot_summary")), hindsight=True),
        Section("The story so far", _text(row.get("prior_plot_summary"))),
        Section("Characters", _sheets(row.get("character_sheets"))),
        Section("Previous chapters", _text(row.get("last_n_chapters"))),
        Section("Synopsis of the next chapter", _text(row.get("next_chapter_synopsis")), True),
    )
    context = StoryContext(tuple(section for section in sections if section.text.strip()))
    return Episode(f"{row['story_id']}/{row['chapter_index']}", context, Chapter(header, text))


def _sheets(sheets: object) -> str:
    if isinstance(sheets, Mapping):
        # A dataset of fixed columns gives every character a field, empty where absent.
        named = ((name, _text(sheet).strip()) for name, sheet in sheets.items())
        return "\n\n".join(f"{name}:\n{sheet}" for name, sheet in named if sheet)
    return _text(sheets)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n\n".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_text(part)}" for name, part in value.items() if part)
    return str(value)
