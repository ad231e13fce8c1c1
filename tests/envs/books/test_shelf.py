"""Shelves: which files are read, one book in two editions, and input that is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.books import BookError, as_json, as_table, read_shelf

MakeEpub = Callable[..., Path]

TEXT = "\n\n".join(f"CHAPTER {n}\n\nThe {n}. tale begins here." for n in (1, 2)) + "\n"


def write_jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def book(title: str, *texts: str, **fields: Any) -> dict[str, Any]:
    chapters = [{"title": f"{n}", "text": text} for n, text in enumerate(texts, 1)]
    return {"title": title, "author": "Ann Author", "chapters": chapters, **fields}


def refusal(*paths: str | Path) -> str:
    with pytest.raises(BookError) as caught:
        read_shelf(list(paths))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_are_walked_in_a_fixed_order_and_no_file_is_read_twice(
    tmp_path: Path, make_epub: MakeEpub, two_chapters: dict[str, str]
) -> None:
    (tmp_path / "sub").mkdir()
    epub = make_epub(two_chapters)
    text = tmp_path / "sub" / "mill.txt"
    text.write_text(TEXT)
    rows = write_jsonl(tmp_path / "a.jsonl", book("One", "a", "b"), book("Two", "c", "d"))
    (tmp_path / "cover.png").write_bytes(b"not a book")
    (tmp_path / ".hidden.txt").write_text("not a book")
    shelf = read_shelf([tmp_path, epub])
    assert [entry.path for entry in shelf.entries] == [str(p) for p in (rows, rows, epub, text)]
    assert read_shelf([epub, tmp_path]).entries[0].path == str(epub)


def test_of_two_editions_the_epub_is_used_and_the_other_is_listed(
    tmp_path: Path, make_epub: MakeEpub, two_chapters: dict[str, str]
) -> None:
    text = tmp_path / "a.txt"
    text.write_text(
        "Title: The Small Book\n\nAuthor: Ann Author\n\n"
        f"*** START OF THIS PROJECT GUTENBERG EBOOK ***\n\n{TEXT}"
    )
    epub = make_epub(two_chapters, title="The Small Book: A Tale")
    shelf = read_shelf([tmp_path])
    assert [entry.same_as for entry in shelf.entries] == [str(epub), None]
    assert [found.title for found in shelf.books] == ["The Small Book: A Tale"]
    assert as_json(shelf)[0]["left_out"][0] == {
        "part": "whole book", "reason": f"same book as {epub}"
    }  # fmt: skip


def test_two_books_with_one_id_are_refused_and_both_named(tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "one.jsonl", book("Mill", "a b", "c d", id="x"))
    two = write_jsonl(tmp_path / "two.jsonl", book("Flood", "e f", "g h", id="x"))
    message = refusal(one, two)
    assert "two books with one id, 'x'" in message
    assert str(one) in message and str(two) in message


def test_two_books_of_one_title_and_author_but_other_text_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", book("Mill", "a b", "c d"), book("Mill", "e", "f"))
    assert "two books with one id" in refusal(path)


def test_volumes_of_a_series_are_different_books(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", book("Mill: Volume I", "a", "b"), book("Mill: Volume II", "c", "d")
    )
    assert len(read_shelf([path]).books) == 2


def test_chapters_of_a_record_may_be_texts_alone(tmp_path: Path) -> None:
    record = {"title": "Mill", "chapters": ["One.\n\nMore.", "Two."]}
    (found,) = read_shelf([write_jsonl(tmp_path / "a.jsonl", record)]).books
    assert [(c.title, c.text) for c in found.chapters] == [("", "One.\n\nMore."), ("", "Two.")]
    assert found.book_id == "mill"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{not json", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ("[1, 2]", "line 1 has no 'chapters' but list"),
        ('{"title": "Mill", "text": "x"}', "line 1 has no 'chapters' but ['text', 'title']"),
        ('{"chapters": ["a", "b"]}', "no 'title'"),
        ('{"title": "Mill", "chapters": "a"}', "'chapters' is a str, not a list"),
        ('{"title": "Mill", "chapters": ["a", 7]}', "chapter 2 has no text but int"),
        ('{"title": "Mill", "chapters": ["a", " "]}', "chapter 2 is empty"),
        ('{"title": "Mill", "chapters": ["a"]}', "one chapter only"),
        ('{"title": "Mill", "chapters": []}', "no chapters"),
        ("", "it holds no books"),
    ],
)
def test_a_bad_record_is_named_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    message = refusal(path)
    assert message.startswith(str(path)) and problem in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"Just one long letter home.\n\nIt rained.", "no chapter headings"),
        (b"CHAPTER I\n\nIt rained.\n", "one chapter only"),
        (b"", "no chapter headings"),
        (b"CHAPTER I\n\nA caf\xe9.\n\nCHAPTER II\n\nB.", "unknown encoding"),
        (b"Character set encoding: KOI8-Q\n\nCHAPTER I\n\nA \xe9.", "its header says 'KOI8-Q'"),
        (b"\xff\xfeC\x00H\x00A", "not text in utf-16-le"),
        (b"CHAPTER I\n\n\x00\x01\x02", "control characters"),
    ],
)
def test_a_bad_text_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(str(path)) and problem in message


def test_one_bad_file_in_a_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(TEXT)
    (tmp_path / "notes.txt").write_text("Remember the milk.")
    assert str(tmp_path / "notes.txt") in refusal(tmp_path)


def test_an_empty_folder_a_missing_path_and_a_strange_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "book.pdf").write_bytes(b"%PDF")
    assert "holds no books" in refusal(tmp_path / "empty")
    assert "no such file or folder" in refusal(tmp_path / "nowhere.epub")
    assert "'.pdf' are not supported" in refusal(tmp_path / "book.pdf")
    assert "no path was given" in refusal()


def test_the_listing_counts_words_and_survives_brackets(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", book("The [red] Mill", "one two", "three four five"))
    shelf = read_shelf([path])
    assert as_json(shelf) == [
        {
            "path": str(path),
            "title": "The [red] Mill",
            "author": "Ann Author",
            "chapters": [{"title": "1", "words": 2}, {"title": "2", "words": 3}],
            "left_out": [],
        }
    ]
    page = io.StringIO()
    Console(width=200, file=page).print(as_table(shelf))
    assert "The [red] Mill" in page.getvalue()
