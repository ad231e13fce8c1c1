"""`nextchapter books`: a table for people, JSON for machines, one line for a bad file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    records = [
        {"title": "The [Quiet] House", "author": "A. Writer", "chapters": ["One two.", "Three."]}
    ]
    path = tmp_path / "books.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_json_has_the_words_of_each_chapter(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["books", str(shelf), "--json"]) == 0
    (book,) = json.loads(capsys.readouterr().out)
    assert set(book) == {"path", "title", "author", "chapters", "left_out"}
    assert [chapter["words"] for chapter in book["chapters"]] == [2, 1]


def test_the_table_shows_titles_as_they_are(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["books", str(shelf)]) == 0
    assert "The [Quiet] House" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["no/such/folder"], "no/such/folder"),
        ([], "PATH"),
        (["--jsn", "a"], "--jsn"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_status_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["books", *argv]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1
