"""Plain texts: headings in their many styles, contents not taken for them, lines joined."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.books import FoundBook, read_gutenberg
from envs.books.headings import Family, parse_heading
from envs.books.headings import looks_like_title as looks_like_a_title

PROSE = (
    "It was a wet evening, and the road to the mill lay\n"
    "under water from the bridge to the old toll-house.\n\n"
    "“Nobody will come,” said the miller.\n"
)
HEADER = (
    "The Project Gutenberg EBook of The Mill, by Ann Author\n\n"
    "Title: The Mill\n       or, The Flood\n\nAuthor: Ann Author\n\n"
    "Character set encoding: {encoding}\n\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK THE MILL ***\n\nProduced by volunteers\n\n"
)
FOOTER = "\n\nEnd of the Project Gutenberg EBook of The Mill\n\n*** END OF THE EBOOK ***\n"


def read(tmp_path: Path, text: str) -> FoundBook:
    path = tmp_path / "the-mill.txt"
    path.write_text(text, encoding="utf-8")
    return read_gutenberg(path)


def titles(found: FoundBook) -> list[str]:
    return [chapter.title for chapter in found.book.chapters]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("CHAPTER I", "CHAPTER II", ["CHAPTER I", "CHAPTER II"]),
        ("CHAPTER I.", "CHAPTER II.", ["CHAPTER I", "CHAPTER II"]),
        ("Chapter 1. The Mill", "Chapter 2. The Flood",
         ["Chapter 1: The Mill", "Chapter 2: The Flood"]),
        ("CHAPTER ONE\n\nThe Mill", "CHAPTER TWO\n\nThe Flood",
         ["CHAPTER ONE: The Mill", "CHAPTER TWO: The Flood"]),
        ("CHAPTER I\n\n\n THE MILL", "CHAPTER II\n\n\n “COME IN!”",
         ["CHAPTER I: THE MILL", "CHAPTER II: “COME IN!”"]),
        ("Chapter I\nIn which it rains, and nobody comes.", "Chapter II\nIn which somebody does.",
         ["Chapter I: In which it rains, and nobody comes.",
          "Chapter II: In which somebody does."]),
        ("CHAPTER THE FIRST", "CHAPTER THE LAST", ["CHAPTER THE FIRST", "Chapter the Last"]),
        ("I.", "II.", ["I", "II"]),
        ("I\n\nThe Mill", "II\n\nThe Flood", ["I: The Mill", "II: The Flood"]),
        ("1", "2", ["1", "2"]),
        ("I. THE MILL", "II. THE FLOOD", ["I: THE MILL", "II: THE FLOOD"]),
        ("LETTER 1", "LETTER 2", ["LETTER 1", "LETTER 2"]),
        ("STAVE ONE", "STAVE TWO", ["STAVE ONE", "STAVE TWO"]),
        ("PART ONE", "PART TWO", ["PART ONE", "PART TWO"]),
        ("PROLOGUE\n\n\nPROSE\n\nCHAPTER I", "CHAPTER II", ["PROLOGUE", "CHAPTER I", "CHAPTER II"]),
    ],
)  # fmt: skip
def test_headings_are_found_in_this_style(
    tmp_path: Path, first: str, second: str, expected: list[str]
) -> None:
    first = first.replace("PROSE", PROSE)
    found = read(tmp_path, f"THE MILL\n\n\n{first}\n\n{PROSE}\n\n\n{second}\n\n{PROSE}")
    assert titles(found) == expected
    for chapter in found.book.chapters:
        assert chapter.text.startswith("It was a wet evening, and the road to the mill lay under")
        assert chapter.text.endswith("\n\n“Nobody will come,” said the miller.")


@pytest.mark.parametrize(
    "contents",
    [
        "CONTENTS\n\n CHAPTER I. The Mill\n CHAPTER II. The Flood\n CHAPTER III. The Boat",
        "CONTENTS\n\nCHAPTER I\n\nCHAPTER II\n\nCHAPTER III",
        "CONTENTS\n\n1.  THE MILL . . . . 11\n2.  THE FLOOD . . . . 17\n3.  THE BOAT . . . 20",
        "CONTENTS\n\nChapter I The Mill 1\n\nChapter II The Flood 9\n\nChapter III The Boat 12",
        "Contents\n\n I The Mill\n II The Flood\n III The Boat",
    ],
)
@pytest.mark.parametrize("preface", ["", f"PREFACE\n\n{PROSE}"])
def test_a_table_of_contents_is_not_taken_for_chapters(
    tmp_path: Path, contents: str, preface: str
) -> None:
    chapters = "".join(f"\n\nCHAPTER {number}\n\n{PROSE}" for number in ("I", "II", "III"))
    found = read(tmp_path, f"THE MILL\n\n{contents}\n\n\n{preface}{chapters}")
    assert titles(found) == ["CHAPTER I", "CHAPTER II", "CHAPTER III"]
    assert all(chapter.num_words == 27 for chapter in found.book.chapters)


def test_headings_without_numbers_are_those_that_the_contents_name(tmp_path: Path) -> None:
    text = f"CONTENTS\n\nThe Mill\nThe Flood\n\n\nTHE MILL\n\n{PROSE}\n\nTHE FLOOD\n\n{PROSE}"
    assert titles(read(tmp_path, text)) == ["THE MILL", "THE FLOOD"]


def test_end_lines_of_volumes_and_back_matter_are_left_out(tmp_path: Path) -> None:
    text = (
        f"CHAPTER I\n\n{PROSE}\n\nEND OF VOLUME I.\n\n\nCHAPTER II\n\n{PROSE}\n\n"
        f"APPENDIX\n\n{PROSE}"
    )
    found = read(tmp_path, text)
    assert [chapter.num_words for chapter in found.book.chapters] == [27, 27]
    assert {"END OF VOLUME I.", "APPENDIX"} <= {left.part for left in found.left_out}


def test_numbers_inside_chapters_are_not_chapters(tmp_path: Path) -> None:
    section = f"\n\nI\n\n{PROSE}\n\nII\n\n{PROSE}"
    found = read(tmp_path, f"\n\nCHAPTER I{section}\n\nCHAPTER II{section}")
    assert titles(found) == ["CHAPTER I", "CHAPTER II"]
    assert "\n\nII\n\n" in found.book.chapters[0].text


def test_a_number_out_of_sequence_is_not_a_chapter(tmp_path: Path) -> None:
    found = read(tmp_path, f"\n\n1\n\n{PROSE}\n\n42\n\n{PROSE}\n\n2\n\n{PROSE}")
    assert titles(found) == ["1", "2"]


def test_parts_name_chapters_that_count_from_one_again(tmp_path: Path) -> None:
    part = "\n\n{name}\n\n\nI\n\n{prose}\n\nII\n\n{prose}"
    text = "".join(part.format(name=n, prose=PROSE) for n in ("BOOK ONE", "BOOK TWO--The Flood"))
    assert titles(read(tmp_path, text)) == [
        "BOOK ONE — I", "BOOK ONE — II", "BOOK TWO: The Flood — I", "BOOK TWO: The Flood — II"
    ]  # fmt: skip


def test_licence_illustrations_italics_and_footnotes_are_removed(tmp_path: Path) -> None:
    story = (
        "CHAPTER I\n\nA _very_ wet\nroad--long.[1]\n\n[Illustration: The mill\n\n[_by_ A. N.]]\n\n"
        "[1] A note.\n\n     So sing the rain,\n     And sing again.\n\n* * * * *\n\nThen.\n\n"
        f"CHAPTER II\n\n{PROSE}\n\nTHE END\n"
    )
    found = read(tmp_path, HEADER.format(encoding="UTF-8") + story + FOOTER)
    assert found.book.title == "The Mill; or, The Flood"
    assert found.book.book_id == "author_the-mill"
    assert found.book.chapters[0].text == (
        "A very wet road—long.\n\nSo sing the rain,\nAnd sing again.\n\n* * *\n\nThen."
    )
    assert found.book.chapters[1].text.endswith("said the miller.")
    assert "illustration (1)" in [left.part for left in found.left_out]


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
        "***START OF THE PROJECT GUTENBERG EBOOK, THE MILL,\nBY ANN AUTHOR***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
        "***END OF THIS PROJECT GUTENBERG EBOOK THE MILL***",
        "End of Project Gutenberg's The Mill, by Ann Author",
        "End of The Project Gutenberg Etext of The Mill",
    ],
)
def test_the_licence_is_stripped_in_this_wording(tmp_path: Path, start: str, end: str) -> None:
    text = (
        f"Licence.\n\n{start}\n\n\nCHAPTER I\n\n{PROSE}\n\nCHAPTER II\n\n{PROSE}\n\n{end}\n\nTerms."
    )
    found = read(tmp_path, text)
    assert found.book.chapters[-1].text.endswith("said the miller.")
    assert len(found.book.chapters) == 2


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"),
     ("latin-1", "ISO-8859-1"), ("cp1252", "Windows-1252")],
)  # fmt: skip
def test_a_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, declared: str) -> None:
    path = tmp_path / "cafe.txt"
    story = "CHAPTER I\n\nA café.\n\n\nCHAPTER II\n\nA fête.\n"
    path.write_bytes((HEADER.format(encoding=declared) + story + FOOTER).encode(encoding))
    assert [c.text for c in read_gutenberg(path).book.chapters] == ["A café.", "A fête."]


@pytest.mark.parametrize(
    "line",
    ["Chapter 3 was dull.", "I", "Mix", "It was late.", "Part of the house", "1832.5 miles"],
)
def test_prose_is_no_worded_heading(line: str) -> None:
    heading = parse_heading(line)
    assert heading is None or heading.family is Family.BARE


@pytest.mark.parametrize("line", ["To Mrs. Saville, England.", "said he", "Yes, but why?", ""])
def test_a_salutation_or_a_line_of_talk_is_no_title(line: str) -> None:
    assert not looks_like_a_title(line)


@pytest.mark.parametrize(("line", "number"), [("CHAPTER XLIX", 49), ("Chapter Twenty-One", 21),
                                              ("LETTER the Third", 3), ("xiv", None)])  # fmt: skip
def test_numbers_are_read_as_digits_numerals_and_words(line: str, number: int | None) -> None:
    heading = parse_heading(line)
    assert (heading.number if heading else None) == number
