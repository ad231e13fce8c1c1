"""Plans as texts: ROUGE-L, copying, diversity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.types import Episode, Section, StoryContext
from train.analysis.rouge import longest_common_subsequence, rouge_l
from train.analysis.texts import diversity, text_metrics

# What rouge-score 0.1.2 (rougeL, no stemmer) gives: precision, recall.
REFERENCE = [
    ("the cat sat on the mat", "the cat is on a mat", 4 / 6, 4 / 6),
    ("Ann pays, and Bob (who lent) laughs.", "Ann laughs; Bob pays!", 2 / 7, 2 / 4),
    ("a b c d e f g", "g f e d c b a", 1 / 7, 1 / 7),
    ("mill", "Ann went to the mill and paid what she owed.", 1.0, 1 / 10),
    ("nothing shared", "Ann went", 0.0, 0.0),
    ("", "Ann went", 0.0, 0.0),
]


@pytest.mark.parametrize(("text", "reference", "precision", "recall"), REFERENCE)
def test_rouge_l_is_that_of_the_usual_package(
    text: str, reference: str, precision: float, recall: float
) -> None:
    found = rouge_l(text, reference)
    assert (found.precision, found.recall) == pytest.approx((precision, recall))


def test_f1_is_the_harmonic_mean() -> None:
    # 2 · 1 · 0.1 / 1.1
    assert rouge_l("mill", "Ann went to the mill and paid what she owed.").f1 == pytest.approx(
        2 / 11
    )
    assert rouge_l("", "").f1 == 0.0


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    # The textbook's pair has a longest common subsequence of 4, such as B C B A.
    assert longest_common_subsequence("ABCBDAB", "BDCABA") == 4
    long = [str(i % 7) for i in range(500)]
    assert longest_common_subsequence(long, long) == 500
    assert longest_common_subsequence(long, long[::2]) == 250
    assert longest_common_subsequence([], long) == 0


def test_the_metrics_of_one_plan(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode(known="Ann owes Bob a ring.")
    sheets = (*episode.context.sections, Section("Characters", "Ann the miller"))
    episode = replace(episode, context=StoryContext(sheets))
    found = text_metrics([episode, episode], ["Ann owes Bob Ann.", ""])
    assert found["plans"] == 1
    assert found["words"] == 4
    assert found["unique_words"] == 3 / 4
    # "ann owes bob" stands in the context, "owes bob ann" does not.
    assert found["unseen_trigrams"] == 1 / 2
    # Of the gold chapter only "ann" is there; of ten words.
    assert found["rouge_l_precision_gold"] == 1 / 4
    # All four words are in the context in this order, the last one on the sheets.
    assert found["rouge_l_precision_context"] == 1.0
    assert found["rouge_l_f1_characters"] == pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))


def test_rows_without_plans_have_no_metrics(make_episode: Callable[..., Episode]) -> None:
    assert text_metrics([make_episode()], [" "]) == {}


def test_texts_that_repeat_each_other_are_less_diverse() -> None:
    alike = diversity(["Ann pays Bob at the mill."] * 5)
    # Six words, five and four runs of two and three, of five times as many.
    assert [alike[f"distinct_{n}"] for n in (1, 2, 3)] == [1 / 5, 1 / 5, 1 / 5]
    varied = diversity(["Ann pays Bob at the mill.", "Zoë lost her ring, quite", "Up we go now"])
    assert varied["distinct_1"] == 1.0
    assert (alike["self_bleu"], varied["self_bleu"]) == (1.0, 0.0)
    assert alike["compression_ratio"] > 2 > varied["compression_ratio"]
