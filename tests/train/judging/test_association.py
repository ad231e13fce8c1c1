"""Spearman's correlation of improvement with preference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from train.judging.association import association, spearman
from train.judging.intervals import resample_weights
from train.judging.judgments import OVERALL, TIE, Judgment, cast_votes

MakeJudgment = Callable[..., Judgment]


def test_distinct_values_by_the_textbook_formula() -> None:
    # 1 - 6 Σd² / (n (n² - 1)), with Σd² = 194 and n = 10: -29 / 165.
    iq = np.array([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], float)
    hours = np.array([7, 27, 2, 50, 28, 29, 20, 12, 6, 17], float)
    assert spearman(iq, hours, np.ones((1, 10)))[0] == pytest.approx(-29 / 165)


def test_equal_values_share_their_mean_rank() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, spreads 4.5 and 5.
    found = spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4]), np.ones((1, 4)))
    assert found[0] == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_a_weight_counts_as_so_many_observations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    weights = rng.integers(0, 4, size=12)
    repeated = spearman(
        np.repeat(x, weights), np.repeat(y, weights), np.ones((1, int(weights.sum())))
    )
    assert spearman(x, y, weights[None].astype(float)) == pytest.approx(repeated)


def test_a_constant_has_no_correlation() -> None:
    assert np.isnan(spearman(np.ones(4), np.arange(4.0), np.ones((1, 4))))[0]


def test_readers_who_always_prefer_the_larger_improvement(make_judgment: MakeJudgment) -> None:
    judgments = [
        make_judgment("good", "1", improvements=(3.0, 1.0)),
        make_judgment("bad", "2", improvements=(-1.0, 0.5)),
        make_judgment(TIE, "3", improvements=(1.0, 1.0)),
        make_judgment("good", "4"),
        make_judgment("refused", "5", improvements=(1.0, 0.0)),
    ]
    votes = cast_votes(judgments, OVERALL)
    found = association(votes, range(5), resample_weights(5, 200, seed=0))
    assert (found.num_votes, found.num_unknown) == (3, 1)
    assert (found.agreeing, found.disagreeing) == (2, 0)
    # Differences -2, -1.5, 0, 0, 1.5, 2 with votes -1, -1, 0, 0, 1, 1.
    ranks_x, ranks_y = np.array([1, 2, 3.5, 3.5, 5, 6]), np.array([1.5, 1.5, 3.5, 3.5, 5.5, 5.5])
    assert found.spearman.value == pytest.approx(np.corrcoef(ranks_x, ranks_y)[0, 1])


def test_it_does_not_matter_which_option_is_called_the_first(make_judgment: MakeJudgment) -> None:
    rng = np.random.default_rng(1)
    gains = rng.normal(size=(30, 2)).tolist()
    answers = rng.choice(["good", "bad", TIE], size=30).tolist()
    weights = resample_weights(30, 100, seed=0)
    found = []
    for turn in (1, -1):
        judgments = [
            make_judgment(
                answer, f"{n}", options=("good", "bad")[::turn], improvements=tuple(gain[::turn])
            )
            for n, (gain, answer) in enumerate(zip(gains, answers, strict=True))
        ]
        found.append(association(cast_votes(judgments, OVERALL), range(30), weights))
    assert found[0].spearman.value == pytest.approx(found[1].spearman.value)
    assert found[0].spearman.ci95 == pytest.approx(found[1].spearman.ci95)


def test_without_improvements_nothing_is_said(make_judgment: MakeJudgment) -> None:
    found = association(cast_votes([make_judgment("good")], OVERALL), [0], np.ones((100, 1)))
    assert (found.num_votes, found.num_unknown, found.spearman.value) == (0, 1, None)
