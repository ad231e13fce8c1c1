"""Stages are shown as bars on a terminal and as two lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from train.progress import ProgressDisplay


def test_without_a_terminal_a_stage_is_a_line_at_start_and_end() -> None:
    text = io.StringIO()
    with ProgressDisplay(Console(file=text)).stage("train [the] generator", 3) as advance:
        for _ in range(3):
            advance(note="loss 1.0")
    assert re.fullmatch(
        r"train \[the\] generator \.\.\.\ntrain \[the\] generator: done in \d+\.\d s\n",
        text.getvalue(),
    )


def test_without_a_terminal_a_stage_that_takes_long_says_how_far_it_is() -> None:
    text = io.StringIO()
    display = ProgressDisplay(Console(file=text), seconds_between_lines=0.0)
    with display.stage("evaluate", 5) as advance:
        advance(2, note="trained, greedy")
        advance(3)
    with display.stage("load models") as advance:
        advance()
    lines = text.getvalue().splitlines()
    assert lines[1:3] == ["evaluate: 2 of 5, trained, greedy", "evaluate: 5 of 5"]
    assert lines[5] == "load models: 1"


@pytest.mark.parametrize("on_terminal", [False, True])
def test_waiting_leaves_no_line(on_terminal: bool) -> None:
    text = io.StringIO()
    display = ProgressDisplay(Console(file=text, force_terminal=on_terminal, width=100))
    with pytest.raises(ValueError), display.waiting("read books"):
        raise ValueError
    assert ("read books" in text.getvalue()) is on_terminal
    assert not any(word in text.getvalue() for word in ("done", "failed"))


def test_a_stage_that_fails_says_so() -> None:
    text = io.StringIO()
    with pytest.raises(ValueError), ProgressDisplay(Console(file=text)).stage("score"):
        raise ValueError
    assert "score: failed in" in text.getvalue()


def test_on_a_terminal_stages_nest() -> None:
    text = io.StringIO()
    display = ProgressDisplay(Console(file=text, force_terminal=True, width=100))
    with display.stage("outer", 2) as outer, display.stage("inner", 1) as inner:
        inner(note="reward 0.4")
        outer()
    assert "inner: done in" in text.getvalue()
    with display.stage("again"):
        pass
    assert "again: done in" in text.getvalue()
