"""The CSV of judgments: what is read from it, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from train.judging.annotations import read_annotations, write_annotations
from train.judging.judgments import DIMENSIONS, OVERALL, Judgment

MakeJudgment = Callable[..., Judgment]
HEADER = ",".join((*DIMENSIONS, "options"))


def row(*cells: str, answer: str = "new", options: str = '"new,old"') -> str:
    return ",".join((*[answer] * 6, options, *cells))


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str) -> Path:
        path = tmp_path / "judged.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def test_the_published_file_is_read_whole(published_csv: Path) -> None:
    found = read_annotations(published_csv)
    assert len(found.judgments) == 120
    assert found.items_from == "texts in common"
    assert found.unused_columns == ("scifi", "fantasy", "romance", "historical")
    assert len({j.item for j in found.judgments}) == 20
    assert len({j.pair for j in found.judgments}) == 120
    assert found.judgments[0].options == ("base7b", "basewr_7b")


def test_rows_with_a_text_in_common_are_about_one_item(csv_file: Callable[..., Path]) -> None:
    texts = ('"(0, 1)"', '"(2, 3)"', '"(1, 4)"', '"(4, 0)"')
    found = read_annotations(csv_file(HEADER + ",texts", *(row(t) for t in texts))).judgments
    first, second, third, fourth = (judgment.item for judgment in found)
    assert first == third == fourth != second
    assert len({judgment.pair for judgment in found}) == 4


def test_a_column_item_has_the_last_word(csv_file: Callable[..., Path]) -> None:
    lines = (row('"(0, 1)"', "book/1"), row('"(0, 1)"', "book/2"))
    found = read_annotations(csv_file(HEADER + ",texts,item", *lines))
    assert [j.item for j in found.judgments] == ["book/1", "book/2"]
    assert found.items_from == "the column item"


def test_without_either_every_row_is_an_item(csv_file: Callable[..., Path]) -> None:
    found = read_annotations(csv_file(HEADER, row(), "", row(answer="same"), row(answer="")))
    assert len({j.item for j in found.judgments}) == 3
    assert [j.answers["plot"] for j in found.judgments] == ["new", "same", ""]


def test_columns_may_stand_in_any_order_and_a_mark_may_come_first(
    csv_file: Callable[..., Path],
) -> None:
    lines = ("\ufeffoptions," + ",".join(DIMENSIONS), '"new,old",' + ",".join(["old"] * 6))
    (found,) = read_annotations(csv_file(*lines)).judgments
    assert (found.options, found.answers["plot"]) == (("new", "old"), "old")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("winner,loser", "a,b"), "has no column 'plot' (it has winner, loser)"),
        ((HEADER.replace("plot", "plott"), row()), "did you mean 'plott'"),
        (("",), "has no column 'plot'"),
        ((HEADER,), "has a header and no rows"),
        ((HEADER, row(answer="neew")), "line 2: plot is won by 'neew', which is not compared here"),
        ((HEADER, row(answer="neew")), "did you mean 'new'?"),
        ((HEADER, row(options="new")), "line 2: options should name two different options"),
        ((HEADER, row(options='"new,new"')), "options should name two different options"),
        ((HEADER, row(options='"new,"')), "options should name two different options"),
        ((HEADER, row(options='"new,same"')), "options should name two different options"),
        ((HEADER, row(options='"a,b,c"')), "options should name two different options"),
        ((HEADER, row(options="new,old")), "line 2: has 8 cells where the header has 7"),
        ((HEADER, row(), "new,new"), "line 3: has 2 cells where the header has 7"),
        ((HEADER, row(options='"new,old')), "not readable as CSV"),
        ((HEADER + ",first", row("elder")), "line 2: first is 'elder'"),
        ((HEADER + ",texts", row("7")), "line 2: texts should be two ids"),
        ((HEADER + ",item", row("")), "line 2: item is empty"),
        ((HEADER + ",improvements", row("3")), "line 2: improvements should be two numbers"),
        ((HEADER + ",improvements", row('"1,nan"')), "improvements should be two numbers"),
        (
            (HEADER + ",item,annotator", row("1", "ann"), row("2", "ann"), row("1", "ann")),
            "line 4: ann judged this pair in this order in line 2 already",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    csv_file: Callable[..., Path], lines: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ValueError) as refused:
        read_annotations(csv_file(*lines))
    assert says in str(refused.value)
    assert "judged.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "judged.csv"
    path.write_bytes(b"plot,\xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_annotations(path)


def test_what_is_written_is_read_back(make_judgment: MakeJudgment, tmp_path: Path) -> None:
    judgments = [
        make_judgment("old", "a, b/1", "judge", "old", ("new", "old"), (1.5, -0.25)),
        make_judgment("same", "a, b/1", "judge", "new", ("new", "old"), (1.5, -0.25)),
        make_judgment("refused", 'the "x"/2', "judge", "new", ("old", "new")),
    ]
    path = tmp_path / "judged.csv"
    write_annotations(path, judgments)
    found = read_annotations(path).judgments
    for wrote, read in zip(judgments, found, strict=True):
        assert read.options == ("new", "old")
        for name in ("answers", "item", "annotator", "first"):
            assert getattr(read, name) == getattr(wrote, name)
    assert [j.improvements for j in found] == [(1.5, -0.25), (1.5, -0.25), None]
    assert len({j.pair for j in found}) == 2


def test_every_dimension_is_required(csv_file: Callable[..., Path]) -> None:
    header = HEADER.replace(f"{OVERALL},", "")
    with pytest.raises(ValueError, match=f"has no column '{OVERALL}'"):
        read_annotations(csv_file(header, ",".join(["new"] * 5 + ['"new,old"'])))
