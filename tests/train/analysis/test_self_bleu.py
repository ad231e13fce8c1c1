"""Self-BLEU: by pencil, and as the usual package has it."""

from __future__ import annotations

import math
import random
import time
from statistics import fmean

import pytest

from train.analysis.self_bleu import self_bleu


def test_copies_of_each_other_are_one_and_strangers_zero() -> None:
    assert self_bleu([["ann", "pays", "bob", "at", "once"]] * 3) == 1.0
    assert self_bleu([["ann"], ["bob"], ["mill"]]) == 0.0


def test_two_texts_of_two_words_by_pencil() -> None:
    # Of two words one matches; of one run of two none, which counts as half a match: the root of
    # 1/2 · 1/2, both ways round.
    assert self_bleu([["ann", "pays"], ["ann", "goes"]]) == pytest.approx(0.5)


def test_one_text_has_no_others_to_be_like() -> None:
    assert self_bleu([["ann", "pays"]]) is None
    assert self_bleu([["ann", "pays"], []]) is None


def test_a_run_counts_as_often_as_one_other_text_has_it() -> None:
    # "a a a" finds two of its three words in "a a", and one of its two runs of two; its run of
    # three counts as half a match. "a a" is whole in "a a a", but shorter: exp(1 - 3/2).
    long, short = (2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3), math.exp(-1 / 2)
    assert self_bleu([["a"] * 3, ["a"] * 2]) == pytest.approx((long + short) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_those_of_the_usual_package(seed: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="comes with nextchapter[lm-eval]")
    rng = random.Random(seed)
    texts = [rng.choices("abcdef", k=rng.randint(1, 12)) for _ in range(12)]
    usual = sacrebleu.BLEU(tokenize="none", effective_order=True)
    joined = [" ".join(text) for text in texts]
    scores = [
        usual.sentence_score(text, [other for j, other in enumerate(joined) if j != i]).score
        for i, text in enumerate(joined)
    ]
    assert self_bleu(texts) == pytest.approx(fmean(scores) / 100, abs=1e-9)


def test_a_thousand_texts_take_a_moment() -> None:
    rng = random.Random(0)
    words = [str(i) for i in range(400)]
    texts = [rng.choices(words, k=30) for _ in range(1000)]
    started = time.process_time()
    self_bleu(texts)
    # Comparing every two of them takes minutes.
    assert time.process_time() - started < 10
