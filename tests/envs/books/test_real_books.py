"""Seventeen novels and four of them again as plain text: chapters as a reader counts them."""

from __future__ import annotations

import difflib
import re
import unicodedata
from pathlib import Path

import pytest

from envs.books import Shelf, as_json, read_epub, read_gutenberg, read_shelf

# Counted in the novels themselves; prologues, epilogues and letters count as chapters.
CHAPTERS = {
    "agatha-christie_the-mysterious-affair-at-styles": 13,
    "anthony-hope_the-prisoner-of-zenda": 22,
    "arthur-conan-doyle_the-hound-of-the-baskervilles": 15,
    "charlotte-bronte_jane-eyre": 38,
    "edgar-rice-burroughs_a-princess-of-mars": 1 + 28,  # a foreword that belongs to the fiction
    "edith-wharton_the-age-of-innocence": 34,
    "frances-hodgson-burnett_the-secret-garden": 27,
    "george-macdonald_the-princess-and-the-goblin": 32,
    "h-g-wells_the-time-machine": 12 + 1,  # an epilogue
    "h-g-wells_the-war-of-the-worlds": 17 + 10,
    "jane-austen_northanger-abbey": 31,
    "jane-austen_pride-and-prejudice": 61,
    "l-frank-baum_the-wonderful-wizard-of-oz": 24,
    "l-m-montgomery_anne-of-green-gables": 38,
    "mary-shelley_frankenstein": 4 + 24,  # letters
    "robert-louis-stevenson_treasure-island": 34,
    "willa-cather_my-antonia": 1 + 19 + 15 + 4 + 4 + 3,  # an introduction told by the narrator
}
BOTH_FORMS = {
    "frances-hodgson-burnett_the-secret-garden": "pg113-the-secret-garden",
    "robert-louis-stevenson_treasure-island": "pg120-treasure-island",
    "mary-shelley_frankenstein": "pg84-frankenstein",
}
# The text prints the sixteen chapters of the London edition of 1895 where the EPUB prints the
# twelve of a later one: these of its chapters make one of the EPUB's.
TIME_MACHINE = [(1, 2), (3,), (4,), (5, 6), (7, 8), (9,), (10,), (11,), (12,), (13,), (14,),
                (15, 16), (17,)]  # fmt: skip

# Spellings that one edition modernised. Everything else that differs counts as a difference.
SPELLINGS = {"dr": "doctor", "capt": "captain", "aye": "ay", "says": "said", "to-day": "today"}
ENDINGS = ((r"our(s|ed|ing|able|less|er|ers|ite|ites)?$", r"or\1"), (r"wards$", "ward"),
           (r"ence(s|less)?$", r"ense\1"), (r"ise(d|s)?$", r"ize\1"), (r"ising$", "izing"),
           (r"yse(d|s)?$", r"yze\1"), (r"tre$", "ter"), (r"lled$", "led"), (r"lling$", "ling"),
           (r"llers?$", "ler"), (r"rey$", "ray"))  # fmt: skip
SIMILARITY = 0.985
# Both start and end with the same words, but for the few that an edition changed.
EDGE_WORDS = 30
EDGE_SIMILARITY = 0.85


@pytest.fixture(scope="module")
def shelf(shared_books: Path) -> Shelf:
    return read_shelf([shared_books])


def words_up_to_typography(text: str) -> list[str]:
    """Lower-case words without quotes, dashes, accents and ligatures, in American spelling."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("æ", "ae").replace("œ", "oe"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub("['\u2018\u2019]", "", plain)
    found: list[str] = re.findall(r"[a-z0-9]+", plain)
    words = [SPELLINGS.get(word, word) for word in found]
    for pattern, replacement in ENDINGS:
        words = [re.sub(pattern, replacement, word) for word in words]
    return words


def with_compounds_joined(words: list[str], other: set[str]) -> list[str]:
    """`quarter deck` is `quarterdeck` where the other form writes that."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] + word in other:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def similarity(one: str, other: str) -> float:
    """Share of words in common, in order: 1.0 for the same text."""
    a, b = words_up_to_typography(one), words_up_to_typography(other)
    a, b = with_compounds_joined(a, set(b)), with_compounds_joined(b, set(a))
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_novel_has_the_chapters_that_a_reader_counts(shared_books: Path, name: str) -> None:
    chapters = read_epub(shared_books / f"{name}.epub").book.chapters
    assert len(chapters) == CHAPTERS[name]
    assert all(chapter.title for chapter in chapters)
    assert min(chapter.num_words for chapter in chapters) >= 70


@pytest.mark.parametrize("name", BOTH_FORMS)
def test_both_forms_of_a_book_hold_the_same_chapters(shared_books: Path, name: str) -> None:
    epub = read_epub(shared_books / f"{name}.epub").book
    text = read_gutenberg(shared_books / "gutenberg" / f"{BOTH_FORMS[name]}.txt").book
    assert epub.book_id == text.book_id
    assert len(epub.chapters) == len(text.chapters)
    for one, other in zip(epub.chapters, text.chapters, strict=True):
        assert similarity(one.text, other.text) >= SIMILARITY, (one.title, other.title)
        for end in (slice(None, EDGE_WORDS), slice(-EDGE_WORDS, None)):
            edges = [" ".join(chapter.text.split()[end]) for chapter in (one, other)]
            assert similarity(*edges) >= EDGE_SIMILARITY, (one.title, edges)


def test_the_time_machine_is_one_text_that_two_editions_divide_differently(
    shared_books: Path,
) -> None:
    epub = read_epub(shared_books / "h-g-wells_the-time-machine.epub").book.chapters
    text = read_gutenberg(shared_books / "gutenberg" / "pg35-the-time-machine.txt").book.chapters
    assert [c.title for c in text][:2] == ["I: Introduction", "II: The Machine"]
    assert len(text) == 16 + 1
    for chapter, numbers in zip(epub, TIME_MACHINE, strict=True):
        joined = "\n\n".join(text[number - 1].text for number in numbers)
        assert similarity(chapter.text, joined) >= SIMILARITY, chapter.title


def test_letters_come_before_chapters_in_frankenstein(shared_books: Path) -> None:
    chapters = read_epub(shared_books / "mary-shelley_frankenstein.epub").book.chapters
    assert [chapter.title for chapter in chapters[:5]] == [
        "Letter I", "Letter II", "Letter III", "Letter IV", "Chapter I"
    ]  # fmt: skip
    assert chapters[-1].text.endswith("lost in darkness and distance.")


def test_parts_stand_before_chapter_titles_and_are_no_chapters(shared_books: Path) -> None:
    found = read_epub(shared_books / "robert-louis-stevenson_treasure-island.epub")
    titles = [chapter.title for chapter in found.book.chapters]
    assert titles[6] == "Part II: The Sea-Cook — VII: I Go to Bristol"
    assert "Part VI: Captain Silver" in [left.part for left in found.left_out]


def test_an_epilogue_stands_outside_the_parts(shared_books: Path) -> None:
    chapters = read_epub(shared_books / "h-g-wells_the-time-machine.epub").book.chapters
    assert chapters[-1].title == "Epilogue"
    assert chapters[-1].text.startswith("One cannot choose but wonder.")


def test_no_chapter_holds_its_heading_a_note_mark_or_a_licence(shelf: Shelf) -> None:
    for book in shelf.books:
        for chapter in book.chapters:
            assert not chapter.text.startswith(f"{chapter.title}\n")
            assert "\u2060" not in chapter.text and "\xa0" not in chapter.text
            assert "Gutenberg" not in chapter.text and "Standard Ebooks" not in chapter.text
            assert not re.search(r"[a-z.”]\d+ ", chapter.text), chapter.title


def test_front_and_back_matter_are_left_out_with_the_reason(shared_books: Path) -> None:
    found = read_epub(shared_books / "charlotte-bronte_jane-eyre.epub")
    reasons = {left.part: left.reason for left in found.left_out}
    assert reasons["Preface"] == "a preface about the book"
    assert reasons["Endnotes"] == "endnotes"
    assert reasons["Uncopyright"] == "a copyright notice"
    assert found.book.chapters[0].text.startswith("There was no possibility of taking a walk")


def test_the_whole_folder_is_a_shelf_of_seventeen_books(shelf: Shelf) -> None:
    assert len(shelf.entries) == 21
    assert len(shelf.books) == 17
    assert len({book.book_id for book in shelf.books}) == 17
    assert all(e.path.endswith(".txt") for e in shelf.entries if e.same_as)


def test_the_listing_shows_the_second_form_and_why_it_is_not_used(shelf: Shelf) -> None:
    rows = [row for row in as_json(shelf) if row["path"].endswith("pg120-treasure-island.txt")]
    assert len(rows[0]["chapters"]) == 34
    assert rows[0]["left_out"][0]["part"] == "whole book"
    assert rows[0]["left_out"][0]["reason"].startswith("same book as ")
