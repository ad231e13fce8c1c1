"""What a reader of the terminal is told."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from train.judging.judgments import TIE, Judgment
from train.judging.report import judgment_report
from train.judging.settings import JudgingConfig
from train.judging.tables import judgment_notes, judgment_tables
from train.progress import ProgressDisplay

MakeJudgment = Callable[..., Judgment]


def shown(judgments: list[Judgment]) -> tuple[str, str]:
    """The tables as printed, and the notes."""
    report = judgment_report(judgments, JudgingConfig(bootstrap_samples=200), 0, ProgressDisplay())
    printed = io.StringIO()
    Console(width=200, file=printed).print(*judgment_tables(report))
    return printed.getvalue(), "\n".join(judgment_notes(report))


def test_what_is_known_is_told(make_judgment: MakeJudgment) -> None:
    judgments = [
        make_judgment(answer, item, annotator, first, improvements=(float(item), 1.0))
        for item, first in (("0", "good"), ("2", "bad"))
        for annotator, answer in (("ann", "good"), ("bob", TIE))
    ]
    tables, notes = shown(judgments)
    assert "good over bad" in tables
    assert "Brackets are 95 % intervals from 200 bootstrap resamples of 2 items." in tables
    # Two units of one answer each: observed 4, expected 8 / 3.
    assert "Krippendorff's alpha -0.500 over 2 pairs with two or more annotators" in notes
    # Ann always says good and Bob always same: no agreement, and none by chance.
    assert "mean Cohen's kappa 0.000" in notes
    assert "the text shown first won 50.0 [9.5, 90.5] % of 2 decided judgments." in notes
    assert "over 4 votes with improvements; the larger improvement was preferred in 1 of 2" in notes


def test_both_orders_are_told(make_judgment: MakeJudgment) -> None:
    judgments = [
        make_judgment(answer, item, "judge", first)
        for item, answers in (("1", ("good", "bad")), ("2", ("bad", "bad")))
        for first, answer in zip(("good", "bad"), answers, strict=True)
    ]
    _, notes = shown(judgments)
    assert (
        "of 2 pairs judged in both orders, 1 have the same winner, 1 went to the first text twice "
        "and 0 to the second" in notes
    )


def test_what_is_not_known_is_told_too(make_judgment: MakeJudgment) -> None:
    judgments = [make_judgment("a", "1", options=("a", "b"))]
    judgments += [make_judgment(TIE, "1", options=("c", "d"))]
    tables, notes = shown(judgments)
    assert "No intervals: there is one item alone." in tables
    assert "overall quality: none, as the decided votes do not link all options." in tables
    assert "Agreement: unknown" in notes
    assert "Position bias: unknown" in notes
    assert "Improvement and preference: unknown" in notes


def test_strengths_that_votes_do_not_fix_are_marked(make_judgment: MakeJudgment) -> None:
    tables, _ = shown([make_judgment("good", f"{n}") for n in range(3)])
    assert "overall quality: the votes fix no finite strengths" in tables
