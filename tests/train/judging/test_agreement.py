"""Agreement against the worked examples of its authors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from train.judging.agreement import agreement, cohen_kappa, krippendorff_alpha
from train.judging.judgments import OVERALL, Judgment, Vote, cast_votes

MakeJudgment = Callable[..., Judgment]


def units(*annotators: str) -> list[list[str]]:
    """The answers to each question; a row is one annotator, `.` for no answer."""
    answers = [row.split() for row in annotators]
    return [[a for a in column if a != "."] for column in zip(*answers, strict=True)]


@pytest.mark.parametrize(
    ("annotators", "alpha"),
    [
        # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sections A, B and C.
        (("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
        (("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
        (
            (
                "1 2 3 3 2 1 4 1 2 . . .",
                "1 2 3 3 2 2 4 1 2 5 . 3",
                ". 3 3 3 2 3 4 2 2 5 1 .",
                "1 2 3 3 2 4 4 1 2 5 1 .",
            ),
            0.743,
        ),
    ],
)
def test_the_worked_examples_of_krippendorff(annotators: tuple[str, ...], alpha: float) -> None:
    assert krippendorff_alpha([units(*annotators)]) == pytest.approx(alpha, abs=5e-4)


def test_full_agreement_is_one_and_one_answer_for_all_is_not_defined() -> None:
    assert krippendorff_alpha([units("a b a", "a b a")]) == 1
    assert krippendorff_alpha([units("a a a", "a a a")]) is None
    assert krippendorff_alpha([units("a b", ". .")]) is None


def test_kappa_of_a_two_by_two_table() -> None:
    # Agreement on 35 of 50; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; (0.7 - 0.5) / (1 - 0.5).
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    answers = [pair for pair, count in table.items() for _ in range(count)]
    assert cohen_kappa([answers]) == pytest.approx(0.4)


def test_kappa_of_the_worked_example_of_cohen() -> None:
    # Cohen 1960, in hundredths of 200 patients: agreement on .70 and by chance on
    # .60 * .50 + .30 * .30 + .10 * .20 = .41.
    shares = {
        **{("a", "a"): 44, ("a", "b"): 7, ("a", "c"): 9},
        **{("b", "a"): 5, ("b", "b"): 20, ("b", "c"): 5},
        **{("c", "a"): 1, ("c", "b"): 3, ("c", "c"): 6},
    }
    answers = [pair for pair, count in shares.items() for _ in range(2 * count)]
    assert cohen_kappa([answers]) == pytest.approx(0.492, abs=5e-4)


def test_kappa_is_not_defined_where_both_always_say_the_same() -> None:
    assert cohen_kappa([[("a", "a")] * 5]) is None


def test_chance_is_taken_within_each_pair_of_options() -> None:
    # Whoever answers "a" on a, b and "c" on c, d every time agrees no more than chance would.
    one = [["a", "a"], ["a", "b"], ["b", "a"], ["b", "b"]]
    two = [["c", "c"], ["c", "d"], ["d", "c"], ["d", "d"]]
    assert krippendorff_alpha([one, two]) == krippendorff_alpha([one])
    assert (krippendorff_alpha([[*one, *two]]) or 0) > 0.3
    assert cohen_kappa([[("a", "a")] * 5, [("c", "c")] * 5]) is None


def test_votes_on_the_same_pair_are_compared(make_judgment: MakeJudgment) -> None:
    said = {"book/1": ("good", "good"), "book/2": ("good", "bad"), "book/3": ("bad", "bad")}
    judgments = [
        make_judgment(answer, item, annotator)
        for item, answers in said.items()
        for annotator, answer in zip(("ann", "bob"), answers, strict=True)
    ]
    judgments.append(make_judgment("good", "book/4", "ann"))
    judgments.append(make_judgment("refused", "book/4", "bob"))
    found = agreement(cast_votes(judgments, OVERALL))
    assert found.num_pairs_shared == 3
    # Two of three agreed; by chance 2/3 * 1/3 + 1/3 * 2/3 = 4/9, so (2/3 - 4/9) / (5/9).
    shared, kappa = found.kappas["ann", "bob"]
    assert shared == 3
    assert kappa == pytest.approx(0.4)
    # One unit of two unlike answers: observed 2; of 3 and 3, 18 ordered pairs differ, over 5.
    assert found.alpha == pytest.approx(1 - 2 / (18 / 5))


def test_unnamed_annotators_count_for_alpha_and_have_no_kappa(make_judgment: MakeJudgment) -> None:
    votes = [Vote(make_judgment(a, item), a) for item in ("1", "2") for a in ("good", "bad")]
    found = agreement(votes)
    assert (found.num_pairs_shared, found.kappas) == (2, {})
    assert found.alpha == pytest.approx(1 - 4 / (8 / 3))
