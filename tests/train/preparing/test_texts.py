"""Texts cut into pieces, names that are one person, statements that are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest

from envs.types import Book, Reply
from train.preparing.people import cast_of, listed_names
from train.preparing.pieces import cut, whole_sentences
from train.preparing.prepare import Preparation
from train.preparing.sheets import ChapterCast, SheetConfig, Statement, sheets, statements_in


def test_a_text_is_cut_between_paragraphs_then_sentences_then_words() -> None:
    assert cut("One two.\n\nThree four.\n\nFive.", 4) == ["One two.\n\nThree four.", "Five."]
    assert cut("One two. Three Mr. Four five!\n\nSix.", 4) == [
        "One two.",
        "Three Mr. Four five!",
        "Six.",
    ]
    assert cut("one two three four five", 2) == ["one two", "three four", "five"]
    assert cut(" \n\n ", 2) == []


def test_a_piece_that_a_window_does_not_hold_is_cut_again() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    pieces = cut(text, 100, lambda piece: len(piece.split()) <= 30)
    assert [len(piece.split()) for piece in pieces] == [25] * 4 and " ".join(pieces) == text
    with pytest.raises(ValueError, match="agent: its window does not hold a prompt with 20 words"):
        cut(text, 100, lambda piece: False)


def test_whole_sentences_are_kept_up_to_a_length() -> None:
    assert whole_sentences("Ann left. Bob cried. Zoe", 10) == "Ann left. Bob cried."
    assert whole_sentences("Ann left. Bob cried.", 3) == "Ann left."
    assert whole_sentences("Ann left for the mill", 3) == "Ann left for"


def test_long_chapters_are_told_in_parts_and_the_parts_together(
    preparation: Callable[..., Preparation], readers: ModuleType, book: Callable[..., Book]
) -> None:
    lengths = ("chapter_summary=2", "story_summary=2", "synopsis=2", "outline=2")
    agent = readers.Echo()
    made = preparation(agent, "lengths.max_words_read=8", *(f"lengths.{n}" for n in lengths))
    assert made.scribe.condense(
        "chapter_summary", [["b0c1x " * 7, "b0c2x " * 8], ["b0c3x"]], 2
    ) == [
        "b0c1x b0c2x.",
        "b0c3x.",
    ]
    assert (agent.times("part_summary"), agent.times("chapter_summary")) == (2, 2)


def test_parts_that_cannot_be_read_together_are_refused_and_not_told_for_ever(
    preparation: Callable[..., Preparation], readers: ModuleType
) -> None:
    lengths = ("chapter_summary=2", "story_summary=2", "synopsis=2", "outline=2")
    made = preparation(
        readers.Echo(), "lengths.max_words_read=8", *(f"lengths.{n}" for n in lengths)
    )
    # An agent whose window holds no two of its own summaries.
    tight = type(made.scribe)(
        made.scribe.desk,
        made.scribe.wording,
        8,
        lambda asked: "b0c1x.\n\nb0c2x" not in asked[-1].content,
    )
    with pytest.raises(ValueError, match="several summaries do not fit"):
        tight.condense("chapter_summary", [["b0c1x " * 7, "b0c2x " * 8]], 2)


def test_names_that_the_text_does_not_hold_were_made_up() -> None:
    text = "Mr. Sherlock Holmes met Watson and the dog."
    answer = "1. Sherlock Holmes\n- Watson.\n* Moriarty\nwatson\nNone of the others has a name here"
    assert listed_names(answer, text) == ["Sherlock Holmes", "Watson"]


def test_a_name_within_one_longer_name_is_that_person() -> None:
    cast = cast_of(
        [["Holmes", "Watson"], ["Mr. Sherlock Holmes"], ["Sherlock Holmes", "Mr. Holmes"]]
    )
    assert cast == {
        "Mr. Sherlock Holmes": {"Holmes", "Mr. Sherlock Holmes", "Sherlock Holmes", "Mr. Holmes"},
        "Watson": {"Watson"},
    }
    # Which of the two is meant nobody can tell.
    cast = cast_of([["Jane Bennet", "Elizabeth Bennet"], ["Bennet", "Elizabeth"]])
    assert cast["Bennet"] == {"Bennet"} and cast["Elizabeth Bennet"] == {
        "Elizabeth Bennet",
        "Elizabeth",
    }
    # Most chapters first, then the latest.
    assert list(cast_of([["Ann", "Bob"], ["Bob", "Zoe"]])) == ["Bob", "Zoe", "Ann"]


def test_statements_are_lines_of_a_category_and_others_are_counted() -> None:
    counts: Counter[str] = Counter()
    categories = {"goals": "wants", "speech": "talk"}
    answer = (
        "Here they are:\n- **Goals**: Ann wants a ring.\nspeech: NONE\nSpeech: Ann lies.\ngoals: An"
    )
    reply = Reply(answer, truncated=True)
    assert statements_in(reply, "Ann", categories, counts) == [
        Statement("Ann", "goals", "Ann wants a ring."),
        Statement("Ann", "speech", "Ann lies."),
    ]
    assert counts == {"written": 2, "unread_lines": 1}
    assert statements_in(Reply("NONE"), "Ann", categories, counts) == []
    many = Reply("\n".join(f"goals: Ann wants {n}." for n in range(40)))
    assert len(statements_in(many, "Ann", categories, counts)) == 30 and counts["too_many"] == 10


def test_a_sheet_keeps_the_latest_statements_and_none_twice() -> None:
    said = [
        Statement("Ann", "goals", f"Ann wants the {thing}.") for thing in ("ring", "mill", "ring")
    ]
    said.append(Statement("Ann Lee", "person", "Ann is tall."))
    chapter = ChapterCast(("Ann", "Ann Lee", "Bob"), tuple(said))
    config = SheetConfig(num_characters=2, max_statements=2)
    # Of Bob nothing was proved.
    assert sheets([chapter], config) == {
        "Ann Lee": "goals: Ann wants the mill. Ann wants the ring.\nperson: Ann is tall."
    }
    one = SheetConfig(num_characters=2, max_statements=1)
    assert sheets([chapter], one)["Ann Lee"].startswith("goals: Ann wants the ring.\n")
