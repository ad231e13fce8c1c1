"""The page on which people judge: blinded, saved at once, and gone on with where it was left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from train.judging.annotations import read_annotations
from train.judging.ballots import Ballots
from train.judging.comparisons import Comparison
from train.judging.desk import Desk
from train.judging.judgments import DIMENSIONS

COMPARISONS = [
    Comparison(
        f"Emma/{i}",
        "Emma is handsome.",
        ("base", "trained"),
        (f"Base text {i}.", f"Trained text {i}."),
    )
    for i in range(30)
]


OpenBallots = Callable[..., Ballots]


@pytest.fixture
def ballots_in() -> Iterator[OpenBallots]:
    """Opens the answers in a folder; all are closed in the end."""
    opened: list[Ballots] = []

    def open_in(folder: Path, seed: int = 0) -> Ballots:
        opened.append(Ballots(folder / "answers.sqlite", COMPARISONS, seed))
        return opened[-1]

    yield open_in
    for ballots in opened:
        ballots.close()


@contextmanager
def serving(folder: Path) -> Iterator[Desk]:
    ballots = Ballots(folder / "answers.sqlite", COMPARISONS, 0)
    desk = Desk(ballots, folder / "judgments.csv", 0)
    thread = threading.Thread(target=desk.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield desk
    finally:
        desk.shutdown()
        thread.join()
        desk.server_close()
        ballots.close()


def read(address: str) -> str:
    with urlopen(address) as reply:
        return reply.read().decode()


def refusal(asked: str | Request) -> int:
    """The status with which it is refused."""
    with pytest.raises(HTTPError) as found:
        urlopen(asked)
    found.value.close()
    return found.value.code


def test_sides_and_order_are_tossed_for_each_annotator(
    tmp_path: Path, ballots_in: OpenBallots
) -> None:
    ballots = ballots_in(tmp_path)
    ann, bob = ballots.ballots("ann"), ballots.ballots("bob")
    assert [b.number for b in ann] != [b.number for b in bob] != list(range(30))
    assert sorted(b.number for b in ann) == list(range(30))
    # Of 30 tosses, 5 to 25 fall on one side but once in ten thousand times.
    assert 5 <= sum(b.is_swapped for b in ann) <= 25
    again = ballots_in(tmp_path).ballots("ann")
    assert again == ann
    swapped = next(b for b in ann if b.is_swapped)
    assert swapped.options == ("trained", "base")
    assert swapped.texts[0] == f"Trained text {swapped.number}."


def test_an_answer_names_the_option_that_stood_on_that_side(
    tmp_path: Path, ballots_in: OpenBallots
) -> None:
    ballots = ballots_in(tmp_path)
    ballots.link("ann")
    ballot = next(b for b in ballots.ballots("ann") if b.is_swapped)
    ballots.answer("ann", ballot.number, "plot", "right")
    ballots.answer("ann", ballot.number, "plot", "left")
    ballots.answer("ann", ballot.number, "language", "same")
    (judgment,) = ballots.judgments()
    # The later answer stands; what was not answered is nothing.
    assert judgment.answers == {
        **dict.fromkeys(DIMENSIONS, ""),
        "plot": "trained",
        "language": "same",
    }
    assert (judgment.first, judgment.annotator) == ("trained", "ann")


def test_other_texts_do_not_go_into_the_same_answers(
    tmp_path: Path, ballots_in: OpenBallots
) -> None:
    ballots_in(tmp_path).close()
    with pytest.raises(ValueError, match="answers about other comparisons or another seed"):
        ballots_in(tmp_path, seed=1)


def test_who_has_no_link_sees_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as desk:
        address = desk.address("ann")
        assert desk.server_address[0] == "127.0.0.1"
        page = read(address)
        # Blinded: the names of the options are nowhere.
        assert "trained" not in page and '"base"' not in page
        elsewhere = Request(address, headers={"Host": "example.org"})
        for refused in (f"http://127.0.0.1:{desk.port}/", address + "x", elsewhere):
            assert refusal(refused) == 404
        for body in (
            b"",
            b"{}",
            b'{"number": 99, "dimension": "plot", "side": "left"}',
            b"x" * 2000,
        ):
            with pytest.raises(HTTPError, match="400"):
                urlopen(Request(address, data=body, method="POST"))
    assert not (tmp_path / "judgments.csv").exists()


def test_a_person_judges_with_the_keyboard_and_goes_on_later(tmp_path: Path, browser: Any) -> None:
    question = "document.getElementById('question').textContent"
    with serving(tmp_path) as desk:
        first = desk.ballots.ballots("ann")[0]
        browser.open(desk.address("ann"))
        left = browser.evaluate("document.querySelector('.texts .text').textContent")
        assert left == first.texts[0]
        assert browser.evaluate(question).startswith("1/6")
        for place, key in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown"), start=2):
            browser.press(key)
            browser.wait_for(f"{question}.startsWith('{place}/6')")
        browser.press("Backspace")
        browser.press("ArrowLeft")
        browser.wait_for(f"{question}.startsWith('4/6')")
    # Saved, though the page was never left: another process goes on with the fourth question.
    with serving(tmp_path) as desk:
        browser.open(desk.address("ann"))
        for place in (5, 6):
            browser.press("ArrowRight")
            browser.wait_for(f"{question}.startsWith('{place}/6')")
        browser.press("ArrowRight")
        browser.wait_for("document.title == '2 of 30'")
        assert desk.ballots.ballots("bob")[0].answers == {}
    (judgment,) = read_annotations(tmp_path / "judgments.csv").judgments
    on_left, on_right = first.options
    assert [judgment.answers[d] for d in DIMENSIONS] == [
        *(on_left, on_right, on_left),
        *(on_right, on_right, on_right),
    ]
    assert (judgment.item, judgment.annotator, judgment.first) == (
        first.comparison.item,
        "ann",
        on_left,
    )


def test_who_has_judged_all_is_thanked(tmp_path: Path) -> None:
    with serving(tmp_path) as desk:
        address = desk.address("ann")
        for number in range(len(COMPARISONS)):
            for dimension in DIMENSIONS:
                desk.ballots.answer("ann", number, dimension, "same")
        assert "Done: 30 of 30" in read(address)
