"""Self-BLEU: how far each text could be made up of runs of words of the others."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

LONGEST_RUN = 4
Run = tuple[str, ...]


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Mean BLEU-4 of each text, given as words, against all the others; 1 where all are alike.

    None where there are fewer than two texts with words. Source: Zhu et al. 2018 (Texygen). The
    numbers are those of sacrebleu's sentence BLEU (exponential smoothing, effective order), which
    compares every two texts; here a table of the largest counts stands for all the others, so that
    time grows with the number of texts and not with its square.
    """
    said = [list(words) for words in texts if words]
    if len(said) < 2:
        return None
    matches = [_matches(said, n) for n in range(1, LONGEST_RUN + 1)]
    lengths = sorted(map(len, said))
    return fmean(
        _bleu([of_n[i] for of_n in matches], len(words), _closest(lengths, len(words)))
        for i, words in enumerate(said)
    )


def _matches(texts: Sequence[Sequence[str]], n: int) -> list[int]:
    """For each text how many of its runs of n words another text holds, each as often as there."""
    counts = [Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in texts]
    # The two texts that hold a run most often: the first, unless it is the one that is asked about.
    most: dict[Run, tuple[int, int, int]] = {}
    for owner, of_text in enumerate(counts):
        for run, count in of_text.items():
            first, of, second = most.get(run, (0, -1, 0))
            most[run] = (count, owner, first) if count > first else (first, of, max(second, count))
    found = []
    for owner, of_text in enumerate(counts):
        total = 0
        for run, count in of_text.items():
            first, of, second = most[run]
            total += min(count, second if of == owner else first)
        found.append(total)
    return found


def _closest(lengths: Sequence[int], own: int) -> int:
    """The length among the others that is closest to that of a text; of two, the shorter."""
    place = bisect_left(lengths, own)
    others = [*lengths[max(0, place - 1) : place], *lengths[place + 1 : place + 2]]
    return min(others, key=lambda length: (abs(length - own), length))


def _bleu(matches: Sequence[int], length: int, reference_length: int) -> float:
    """BLEU from how many runs of 1, 2, … words matched, as Chen & Cherry 2014 smooth it (no. 3)."""
    if not matches[0]:
        return 0.0
    logs, halving = [], 1
    for n, matched in enumerate(matches, start=1):
        runs = length - n + 1
        if runs < 1:
            break
        if not matched:
            halving *= 2
        logs.append(math.log((matched or 1 / halving) / runs))
    brevity = min(0.0, 1 - reference_length / length)
    return math.exp(brevity + fmean(logs))
