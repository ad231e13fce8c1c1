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
