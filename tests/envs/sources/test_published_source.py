"""The published dataset as a source: ready episodes, one set of files per split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.prompts import Prompts
from envs.sources.published import PublishedSource


def row(story: str, index: int, **fields: Any) -> dict[str, Any]:
    return {
        "story_id": story,
        "chapter_index": index,
        "next_chapter": f"It rained again, {index}.",
        "next_chapter_header": f"Chapter {index}",
        "prior_plot_summary": "It rained.",
        "high_level_plot_summary": "It rains until the end.",
        **fields,
    }


def source(folder: Path, train: list[dict[str, Any]], **others: list[dict[str, Any]]) -> Any:
    rows = {"train": train, "validation": [row("v", 1)], "test": [row("t", 1)], **others}
    for split, each in rows.items():
        text = "".join(json.dumps(one) + "\n" for one in each)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return PublishedSource(**{split: [str(folder / f"{split}.jsonl")] for split in rows})


def test_each_split_has_the_episodes_of_its_files(tmp_path: Path) -> None:
    data = source(tmp_path, [row("a", 1), row("a", 2), row("b", 1)])
    assert [e.episode_id for e in data.episodes("train")] == ["a/1", "a/2", "b/1"]
    assert [e.episode_id for e in data.episodes("test")] == ["t/1"]


def test_the_heading_of_the_chapter_ends_the_context_in_hindsight(tmp_path: Path) -> None:
    (episode,) = source(tmp_path, [row("a", 1)]).episodes("train")
    last = episode.context.sections[-1]
    assert (last.heading, last.text, last.hindsight) == (
        "Heading of the next chapter",
        "Chapter 1",
        True,
    )
    assert "Chapter 1" not in Prompts().render(episode.context)
    assert "Chapter 1" in Prompts(include_hindsight=True).render(episode.context)


def test_a_chapter_without_a_heading_adds_no_section(tmp_path: Path) -> None:
    (episode,) = source(tmp_path, [row("a", 1, next_chapter_header="")]).episodes("train")
    assert [s.text for s in episode.context.sections] == ["It rains until the end.", "It rained."]


def test_there_are_no_plans_to_learn_from(tmp_path: Path) -> None:
    data = source(tmp_path, [row("a", 1)])
    assert data.writing_samples() == [(data.episodes("train")[0], "")]
    with pytest.raises(ValueError, match="warm_start=null"):
        data.demonstrations("In summary:")


def test_a_story_in_two_splits_is_refused(tmp_path: Path) -> None:
    data = source(tmp_path, [row("a", 1)], test=[row("a", 2)])
    with pytest.raises(ValueError, match=r"data\.test: the story 'a' is also in data\.train"):
        data.episodes("train")


def test_books_are_refused(tmp_path: Path) -> None:
    book = {"title": "Mill", "author": "A", "chapters": ["Rain.", "More rain."]}
    with pytest.raises(ValueError, match=r"data\.validation: .*data=bookshelf"):
        source(tmp_path, [row("a", 1)], validation=[book]).episodes("train")


def test_the_key_names_the_content_of_all_splits(tmp_path: Path) -> None:
    key = source(tmp_path, [row("a", 1)]).key()
    (tmp_path / "moved").mkdir()
    assert source(tmp_path / "moved", [row("a", 1)]).key() == key
    assert source(tmp_path, [row("a", 1)], test=[row("t", 2)]).key() != key
