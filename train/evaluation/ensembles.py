"""The table of an ensemble: outcomes that no agent has a part in, and the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from envs.types import Outcome
from rewards.monitors.controls import random_texts
from train.analysis.rows import ORACLE, WRITER_ROW, Evaluation, Row, mean_of
from train.evaluation.controls import without_context
from train.evaluation.evaluator import Evaluator
from train.pace import SCORES, UNCHANGED
from train.progress import ProgressDisplay


@dataclass(frozen=True)
class Made:
    """Outcomes for all episodes, in order, and what each took."""

    outcomes: Sequence[Outcome]
    play: Sequence[Mapping[str, float]]


def ensemble_table(
    evaluator: Evaluator, made: Mapping[str, Made], progress: ProgressDisplay
) -> Evaluation:
    """Rows of outcomes that no agent has a part in, and the controls.

    `oracle` takes for each episode the best of the rows of one writer: what no choice among them
    that is made beforehand can beat.
    """
    episodes = evaluator.episodes
    texts = [e.plans["true"] for e in episodes if "true" in e.plans]
    has_texts = len(texts) == len(episodes)
    num_scores = (len(made) + 1 + has_texts) * len(episodes)
    with evaluator.steps.shown(progress, {SCORES: num_scores, UNCHANGED: len(episodes)}):
        rows = [_made(evaluator, name, some) for name, some in made.items()]
        made_by = [row for row in rows if row.name.startswith(WRITER_ROW)]
        rows.append(_oracle(evaluator, made_by))
        rows.append(evaluator.plans("empty_plan", ["" for _ in episodes]))
        if has_texts:
            rows.append(evaluator.plans("random_words", random_texts(episodes, texts)))
        checks = (without_context(evaluator),)
    learned = [row for row in rows if row.way is not None]
    ahead = {row.label: evaluator.ahead(row, made_by) for row in learned}
    found = Evaluation(tuple(rows), (), evaluator.num_cut(), (), checks, ahead=ahead)
    return evaluator.analysed(found, progress)


def _made(evaluator: Evaluator, name: str, made: Made) -> Row:
    attempts = []
    for start, some in evaluator.batches():
        place = slice(start, start + len(some))
        make = partial(evaluator.scored, name, made.outcomes[place])
        key = {"outcomes": [repr(outcome) for outcome in made.outcomes[place]]}
        attempts += evaluator.kept(key, some, make, name, (SCORES,))
    attempts = [replace(a, play=p) for a, p in zip(attempts, made.play, strict=True)]
    row = evaluator.row(name, None, attempts)
    return replace(row, play=mean_of(a.play for a in attempts))


def _oracle(evaluator: Evaluator, rows: Sequence[Row]) -> Row:
    best = [
        max(attempts, key=lambda a: a.improvement)
        for attempts in zip(*(row.attempts for row in rows), strict=True)
    ]
    return replace(evaluator.row(ORACLE, None, best), play=mean_of(a.play for a in best))
