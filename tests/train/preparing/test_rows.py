"""What stands in a row: what was known before the chapter, and nothing of it or later."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from envs.books.published import episodes_from_rows
from envs.prompts import Prompts, prompt_leaks
from envs.types import Book
from train.preparing.prepare import Preparation

Prepare = Callable[..., Preparation]


def chapters_told(text: object, marks: Any) -> set[int]:
    """The chapters whose mark stands in it."""
    return {int(mark.split("c")[1].rstrip("x")) for mark in marks.findall(json.dumps(text))}


@pytest.mark.parametrize("more", [[], ["hindsight.synopsis=true", "hindsight.outline=true"]])
def test_nothing_of_the_chapter_or_later_is_in_what_is_known_before_it(
    preparation: Prepare, readers: ModuleType, book: Callable[..., Book], more: list[str]
) -> None:
    # With short pieces and short summaries every way of cutting and condensing is gone.
    short = ["chapter_summary=1", "story_summary=4", "synopsis=1", "outline=4", "max_words_read=16"]
    made = preparation(readers.Echo(), *(f"lengths.{s}" for s in short), *more)
    (rows,) = made.rows([book(chapters=9)])
    for row, episode in zip(rows, episodes_from_rows("made", [("", r) for r in rows]), strict=True):
        index = row["chapter_index"]
        for name in ("prior_plot_summary", "character_sheets", "last_n_chapters"):
            told = chapters_told(row[name], readers.MARK)
            assert told and max(told) < index, (name, index)
        known = [section.text for section in episode.context.known_before().sections]
        assert max(chapters_told(known, readers.MARK)) == index - 1
        assert not prompt_leaks(Prompts().ask_for_plan(episode.context), episode, num_words=6)
    # The same agent does tell of the chapter where it is asked in hindsight.
    synopses = [chapters_told(row["next_chapter_synopsis"], readers.MARK) for row in rows]
    assert synopses == ([{n} for n in range(1, 9)] if more else [set()] * 8)
    outline = chapters_told(rows[0]["high_level_plot_summary"], readers.MARK)
    assert (len(outline) > 1) == bool(more)


def test_a_row_has_the_published_fields(
    preparation: Prepare, readers: ModuleType, book: Callable[..., Book]
) -> None:
    (rows,) = preparation(readers.Echo()).rows([book()])
    assert [row["chapter_index"] for row in rows] == [1, 2, 3]
    assert rows[1] == {
        "story_id": "book0",
        "chapter_index": 2,
        "prior_plot_summary": "Title of b0c0x: b0c0x.\n\nTitle of b0c1x: b0c1x.",
        # Bob was in one chapter of the two, Ann in both.
        "character_sheets": {
            "Ann": "goals: Ann wants b0c0x. Ann wants b0c1x.",
            "Bob": "goals: Bob wants b0c1x.",
        },
        "last_n_chapters": (
            "Title of b0c1x\n\nAnn walked to b0c1x.\n\nThere Bob had waited for b0c1x."
        ),
        "next_chapter_header": "Title of b0c2x",
        "next_chapter": "Ann walked to b0c2x.\n\nThere Bob had waited for b0c2x.",
        "next_chapter_synopsis": "",
        "high_level_plot_summary": "",
        "story_text": "",
    }


def test_the_whole_story_is_in_a_row_where_it_is_asked_for_and_in_no_context(
    preparation: Prepare, readers: ModuleType, book: Callable[..., Book]
) -> None:
    (rows,) = preparation(readers.Echo(), "include_story_text=true").rows([book()])
    assert all("b0c0x" in row["story_text"] and "b0c3x" in row["story_text"] for row in rows)
    (episode, *_) = episodes_from_rows("made", [("", row) for row in rows])
    assert not any("b0c3x" in section.text for section in episode.context.sections)


def test_only_what_some_row_needs_is_asked(
    preparation: Prepare, readers: ModuleType, book: Callable[..., Book]
) -> None:
    agent = readers.Echo()
    preparation(agent).rows([book(), book(1)])
    # Of four chapters the last is before no other; their summaries together are short enough.
    assert agent.times("chapter_summary") == agent.times("characters") == 2 * 3
    assert agent.times("story_summary") == agent.times("synopsis") == agent.times("outline") == 0
    # Ann in three chapters and Bob in two, with two statements each.
    assert agent.times("statements") == 2 * 5 and agent.times("verdict") == 2 * 10
    alone = readers.Echo(say={"unasked": str})
    preparation(alone, "sheets.num_characters=0").rows([book()])
    assert {readers.task_of(asked) for asked in alone.asked} == {"chapter_summary"}


def test_more_chapters_before_it_can_be_shown(
    preparation: Prepare, readers: ModuleType, book: Callable[..., Book]
) -> None:
    (rows,) = preparation(readers.Echo(), "num_previous_chapters=2").rows([book()])
    shown = [chapters_told(row["last_n_chapters"], readers.MARK) for row in rows]
    assert shown == [{0}, {0, 1}, {1, 2}]
    (rows,) = preparation(readers.Echo(), "num_previous_chapters=0").rows([book()])
    assert [row["last_n_chapters"] for row in rows] == ["", "", ""]
