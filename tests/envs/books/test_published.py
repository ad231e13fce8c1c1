"""Rows of the published dataset become episodes; what they know in hindsight is marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.books import BookError, as_json, read_published_episodes, read_shelf


def row(index: int, **fields: Any) -> dict[str, Any]:
    return {
        "story_id": "mill",
        "chapter_index": index,
        "story_text": f"everything, the gold chapter {index} too",
        "next_chapter": f"It rained again, {index}.",
        "next_chapter_header": f"Chapter {index}",
        "prior_plot_summary": "It rained.",
        "high_level_plot_summary": "It rains until the end.",
        "character_sheets": {"Ann": "A miller.", "Ben": None, "Cid": "A crow."},
        "next_chapter_synopsis": "Rain.",
        "last_n_chapters": ["One.", "Two."],
        **fields,
    }


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def test_sections_stand_in_the_order_of_the_published_prompt(tmp_path: Path) -> None:
    (episode,) = read_published_episodes(write(tmp_path / "a.jsonl", row(3)))
    assert episode.episode_id == "mill/3" and episode.book_id == "mill"
    assert (episode.chapter.title, episode.chapter.text) == ("Chapter 3", "It rained again, 3.")
    assert [(s.text, s.hindsight) for s in episode.context.sections] == [
        ("It rains until the end.", True),
        ("It rained.", False),
        ("Ann:\nA miller.\n\nCid:\nA crow.", False),
        ("One.\n\nTwo.", False),
        ("Rain.", True),
    ]


def test_no_text_of_the_gold_chapter_reaches_the_context(tmp_path: Path) -> None:
    (episode,) = read_published_episodes(write(tmp_path / "a.jsonl", row(3)))
    assert all("gold chapter" not in section.text for section in episode.context.sections)


def test_fields_that_are_empty_make_no_sections(tmp_path: Path) -> None:
    bare = {"story_id": "mill", "chapter_index": 0, "next_chapter": "Rain.",
            "character_sheets": {}, "prior_plot_summary": ""}  # fmt: skip
    (episode,) = read_published_episodes(write(tmp_path / "a.jsonl", bare))
    assert episode.episode_id == "mill/0" and episode.context.sections == ()


def test_a_shelf_carries_published_rows_as_episodes_and_lists_them_by_story(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.jsonl", row(1), row(2), row(1, story_id="flood"))
    shelf = read_shelf([path])
    assert shelf.books == ()
    assert [e.episode_id for e in shelf.episodes] == ["mill/1", "mill/2", "flood/1"]
    listed = [(r["title"], [c["title"] for c in r["chapters"]]) for r in as_json(shelf)]
    assert listed == [("mill", ["Chapter 1", "Chapter 2"]), ("flood", ["Chapter 1"])]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ([row(1, next_chapter=None)], "no 'next_chapter'"),
        ([row(1, story_id=None)], "no 'story_id'"),
        ([row(1, next_chapter="  ")], "'next_chapter' is empty"),
        ([row(1), row(1)], "line 1 and line 2 both are episode 'mill/1'"),
        ([row(1), 7], "the row is a int"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: list[Any], problem: str) -> None:
    path = write(tmp_path / "a.jsonl", *bad)
    with pytest.raises(BookError, match=r"a\.jsonl") as caught:
        read_shelf([path])
    assert problem in str(caught.value)


def test_one_episode_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", row(1))
    write(tmp_path / "b.jsonl", row(1))
    with pytest.raises(BookError, match=r"b\.jsonl: episode 'mill/1' is also in .*a\.jsonl"):
        read_shelf([tmp_path])
