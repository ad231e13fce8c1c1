"""What plans, and chapters written with them, are like as texts: how long, how varied, how true."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from statistics import fmean

from envs.types import Episode
from rewards.monitors.copying import unseen_share, words
from train.analysis.rouge import rouge_l
from train.analysis.self_bleu import self_bleu

CHARACTERS = "character"
REPEATED = 4
"""Words in a run of which `repeated_runs` tells the share that was there before in the same text
(Welleck et al. 2020, seq-rep-4)."""


def text_metrics(episodes: Sequence[Episode], plans: Sequence[str]) -> dict[str, float]:
    """Means over the plans that are not empty, and of all of them together; {} where all are.

    A measure that is not defined for a plan, such as trigrams of two words, leaves it out.
    """
    written = [(e, plan) for e, plan in zip(episodes, plans, strict=True) if plan.strip()]
    if not written:
        return {}
    found: dict[str, list[float]] = {}
    for episode, plan in written:
        for name, value in _of_one(episode, plan):
            found.setdefault(name, []).append(value)
    means = {name: fmean(values) for name, values in found.items()}
    return {"plans": len(written), **means, **diversity([plan for _, plan in written])}


def _of_one(episode: Episode, plan: str) -> Iterator[tuple[str, float]]:
    said = words(plan)
    yield "words", len(said)
    if said:
        yield "unique_words", len(set(said)) / len(said)
    runs = [tuple(said[i : i + REPEATED]) for i in range(len(said) - REPEATED + 1)]
    if runs:
        yield "repeated_runs", 1 - len(set(runs)) / len(runs)
    known = episode.context.known_before().sections
    context = "\n".join(section.text for section in known)
    unseen = unseen_share(plan, context)
    if unseen is not None:
        yield "unseen_trigrams", unseen
    sheets = "\n".join(s.text for s in known if CHARACTERS in s.heading.lower())
    references = {"gold": episode.chapter.text, "context": context, "characters": sheets}
    for name, reference in references.items():
        if reference:
            rouge = rouge_l(plan, reference)
            yield f"rouge_l_f1_{name}", rouge.f1
            yield f"rouge_l_precision_{name}", rouge.precision


def diversity(texts: Sequence[str]) -> dict[str, float]:
    """How alike texts are among themselves.

    `distinct_n`: share of different runs of n words among all of them (Li et al. 2016).
    `self_bleu`: mean BLEU of each against the others (Zhu et al. 2018); more is more alike.
    `compression_ratio`: bytes of the texts over their bytes compressed; more is more alike
    (Shaib et al. 2024). All depend on how much text there is: compare equally many plans.
    """
    said = [words(text) for text in texts]
    found = {}
    for n in (1, 2, 3):
        runs = [tuple(w[i : i + n]) for w in said for i in range(len(w) - n + 1)]
        if runs:
            found[f"distinct_{n}"] = len(set(runs)) / len(runs)
    alike = self_bleu(said)
    if alike is not None:
        found["self_bleu"] = alike
    together = "\n".join(texts).encode()
    found["compression_ratio"] = len(together) / len(zlib.compress(together, level=9))
    return found
