"""Improvements in a file of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envs.types import Episode
from rewards.types import Likelihood
from train.analysis.rows import Attempt, Evaluation, Row
from train.judging.improvements import read_improvements, with_improvements, write_improvements
from train.judging.judgments import Judgment
from train.statistics import Interval

MakeJudgment = Callable[..., Judgment]


def row(name: str, decoding: str | None, episodes: list[Episode], *improvements: float) -> Row:
    nothing = Likelihood(0.0, ())
    attempts = (
        Attempt(e, "", improvement, nothing, nothing)
        for e, improvement in zip(episodes, improvements, strict=True)
    )
    return Row(name, decoding, Interval(0.0, (0.0, 0.0)), tuple(attempts))


def test_what_a_run_leaves_is_read_from_its_folder(
    make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    episodes = [make_episode("Emma, a novel/1"), make_episode("Emma, a novel/2")]
    rows = (
        row("trained", "greedy", episodes, 2.5, -1 / 3),
        row("empty_plan", None, episodes, 0.0, 0.0),
    )
    write_improvements(Evaluation(rows, ()), tmp_path)
    assert read_improvements(tmp_path) == {
        ("Emma, a novel/1", "trained greedy"): 2.5,
        ("Emma, a novel/2", "trained greedy"): -1 / 3,
        ("Emma, a novel/1", "empty_plan"): 0.0,
        ("Emma, a novel/2", "empty_plan"): 0.0,
    }


def test_improvements_from_a_file_of_their_own(make_judgment: MakeJudgment, tmp_path: Path) -> None:
    path = tmp_path / "improvements.csv"
    path.write_text("option,item,improvement\ngood,1,2.5\nbad,1,0\ngood,2,1\n")
    judgments = [make_judgment("good", "1"), make_judgment("good", "2")]
    found = with_improvements(judgments, read_improvements(path))
    assert [j.improvements for j in found] == [(2.5, 0.0), None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item,option\n1,good\n", "has no column 'improvement'"),
        ("item,option,improvement\n1,good,much\n", "line 2: improvement should be a number"),
        ("item,option,improvement\n1,good,1\n1,good,2\n", "line 3: good on 1 stands above already"),
    ],
)
def test_improvements_that_cannot_be_used_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "improvements.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_improvements(path)
