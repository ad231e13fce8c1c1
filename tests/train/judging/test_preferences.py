"""From judgments to win shares and strengths with intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from train.judging.annotations import read_annotations
from train.judging.intervals import Estimate, resample_weights
from train.judging.judgments import DIMENSIONS, OVERALL, TIE, Judgment, cast_votes
from train.judging.preferences import Preferences, Tally, preferences
from train.judging.report import JudgmentReport, judgment_report
from train.judging.settings import JudgingConfig
from train.judging.tables import judgment_notes
from train.progress import ProgressDisplay

MakeJudgment = Callable[..., Judgment]


def report_on(judgments: list[Judgment], **settings: object) -> JudgmentReport:
    config = JudgingConfig(**{"bootstrap_samples": 200, **settings})  # pyright: ignore[reportArgumentType]
    return judgment_report(judgments, config, 0, ProgressDisplay())


def overall(judgments: list[Judgment], num_samples: int = 200) -> Preferences:
    options = sorted({option for j in judgments for option in j.options}, reverse=True)
    votes = cast_votes(judgments, OVERALL)
    items = sorted({j.item for j in judgments})
    clusters = [items.index(vote.judgment.item) for vote in votes]
    tally = Tally.count(votes, options, clusters)
    return preferences(tally, resample_weights(len(items), num_samples, 0))


def test_the_published_table_is_reproduced(published_csv: Path) -> None:
    # Gurung & Lapata 2025, 7B: how often the first is preferred over the second, ties dropped, on
    # plot, character, creativity, development, language and overall quality.
    published = {
        ("basesft_7b", "base7b"): (5.3, 26.3, 21.1, 22.2, 35.0, 15.0),
        ("basewr_7b", "base7b"): (72.2, 68.8, 57.1, 68.8, 66.7, 66.7),
        ("basewr_7b", "basesft_7b"): (83.3, 84.2, 82.4, 88.2, 76.5, 83.3),
        ("trained_7b", "basesft_7b"): (89.5, 89.5, 84.2, 89.5, 88.9, 90.0),
        ("trained_7b", "base7b"): (52.9, 46.7, 81.2, 52.9, 80.0, 76.5),
        ("trained_7b", "basewr_7b"): (62.5, 61.5, 70.6, 66.7, 58.8, 64.7),
    }
    report = report_on(list(read_annotations(published_csv).judgments))
    assert (report.num_judgments, report.num_items, report.num_clusters) == (120, 20, 20)
    for number, dimension in enumerate(DIMENSIONS):
        shares = {}
        for pair in report.dimensions[dimension].preferences.pairs:
            assert pair.wins + pair.losses + pair.ties == 20
            share = pair.probability.value
            assert share is not None
            shares[pair.first, pair.second] = 100 * share
            shares[pair.second, pair.first] = 100 - 100 * share
        for pair, values in published.items():
            assert shares[pair] == pytest.approx(values[number], abs=0.051), (dimension, pair)


def test_the_published_joint_strengths_are_reproduced(published_csv: Path) -> None:
    report = report_on(list(read_annotations(published_csv).judgments))
    strengths = report.dimensions[OVERALL].preferences.bradley_terry
    assert strengths is not None
    assert {name: round(found.value or 0, 3) for name, found in strengths.by_option.items()} == {
        "trained_7b": 0.503,
        "basewr_7b": 0.284,
        "base7b": 0.170,
        "basesft_7b": 0.043,
    }
    assert report.options == tuple(strengths.by_option)
    for found in strengths.by_option.values():
        assert found.ci95 is not None and found.value is not None
        assert found.ci95[0] < found.value < found.ci95[1]


def test_three_votes_of_one_pair(make_judgment: MakeJudgment) -> None:
    found = overall([make_judgment(a, str(n)) for n, a in enumerate(("good", "good", "bad", TIE))])
    (pair,) = found.pairs
    assert (pair.first, pair.wins, pair.losses, pair.ties) == ("good", 2, 1, 1)
    assert pair.probability.value == pytest.approx(2 / 3)
    assert pair.probability_half_ties.value == pytest.approx(2.5 / 4)
    assert found.bradley_terry is not None
    strength = found.bradley_terry.by_option["good"].value
    assert strength == pytest.approx(2 / 3)


def test_two_items_by_pencil(make_judgment: MakeJudgment) -> None:
    # Item 1: 3 of 3, item 2: 1 of 3. The draws 11, 12 and 22 have shares 1, 4/6 and 1/3.
    answers = {"1": ["good"] * 3, "2": ["good", "bad", "bad"]}
    (pair,) = overall(
        [make_judgment(a, item) for item in answers for a in answers[item]], 1000
    ).pairs
    assert pair.probability == Estimate(
        pytest.approx(4 / 6),  # pyright: ignore[reportArgumentType]
        pytest.approx((1 / 3, 1)),  # pyright: ignore[reportArgumentType]
    )


def test_the_interval_holds_the_truth_about_95_times_in_100(make_judgment: MakeJudgment) -> None:
    # 40 items of 5 votes each; on half of them an item speaks for `good` in 9 of 10 votes, on the
    # others in 3 of 10: 0.6 in all.
    rng = np.random.default_rng(0)
    held, trials = 0, 200
    weights = resample_weights(40, 300, 0)
    for _ in range(trials):
        chances = rng.choice([0.9, 0.3], size=(40, 1))
        wins = (rng.random((40, 5)) < chances).sum(1)
        counts = np.zeros((40, 2, 2))
        counts[:, 0, 1], counts[:, 1, 0] = wins, 5 - wins
        tally = Tally(("good", "bad"), counts, np.zeros((40, 2, 2)), 0)
        low, high = preferences(tally, weights).pairs[0].probability.ci95 or (1, 0)
        held += low <= 0.6 <= high
    # Binomial: 95 % of 200 with a deviation of 3; percentile intervals run a little short.
    assert 0.89 <= held / trials <= 0.99


def test_an_option_that_won_everything_is_told(make_judgment: MakeJudgment) -> None:
    found = overall([make_judgment("good", str(n)) for n in range(20)])
    (pair,) = found.pairs
    assert pair.probability == Estimate(1.0, (1.0, 1.0))
    # The bootstrap has no width here; the score interval does: n / (n + z²) = 20 / 23.84.
    assert pair.probability_wilson == pytest.approx((0.839, 1), abs=5e-4)
    assert found.bradley_terry is not None
    assert (found.bradley_terry.is_finite, found.bradley_terry.num_not_finite) == (False, 200)


def test_ties_alone_give_no_strengths_and_no_share(make_judgment: MakeJudgment) -> None:
    found = overall([make_judgment(TIE, str(n)) for n in range(3)])
    assert (found.bradley_terry, found.davidson) == (None, None)
    assert found.pairs[0].probability.value is None
    assert found.pairs[0].probability_half_ties.value == 0.5


def test_options_that_never_met_have_pairs_and_no_joint_strengths(
    make_judgment: MakeJudgment,
) -> None:
    judgments = [make_judgment("a", str(n), options=("a", "b")) for n in range(3)]
    judgments += [make_judgment("c", str(n), options=("c", "d")) for n in range(3)]
    report = report_on(judgments)
    found = report.dimensions[OVERALL].preferences
    assert len(found.pairs) == 2
    assert (found.bradley_terry, found.davidson) == (None, None)


def test_what_was_not_answered_is_counted_and_left_out(make_judgment: MakeJudgment) -> None:
    answers = ("good", "bad", "refused", "unclear", "")
    report = report_on([make_judgment(answer, str(n)) for n, answer in enumerate(answers)])
    found = report.dimensions[OVERALL]
    assert found.unanswered == {"empty": 1, "refused": 1, "unclear": 1}
    assert found.preferences.num_unanswered == 3
    assert found.preferences.pairs[0].probability.value == 0.5
    notes = "\n".join(judgment_notes(report))
    assert "overall quality: 1 empty, 1 refused, 1 unclear of 5 judgments; 3 votes left" in notes


def test_annotators_can_be_resampled_instead_of_items(make_judgment: MakeJudgment) -> None:
    judgments = [
        make_judgment(answer, item, annotator)
        for annotator, answer in (("ann", "good"), ("bob", "bad"))
        for item in ("1", "2", "3", "4")
    ]
    by_item = report_on(judgments).dimensions[OVERALL].preferences.pairs[0].probability
    by_person = report_on(judgments, resample="annotator")
    assert by_item.ci95 == (0.5, 0.5)
    assert by_person.dimensions[OVERALL].preferences.pairs[0].probability.ci95 == (0, 1)
    assert by_person.num_clusters == 2
    with pytest.raises(ValueError, match=r"judging\.resample: annotators cannot be resampled"):
        report_on([make_judgment("good")], resample="annotator")
