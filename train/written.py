"""Chapters that the generator writes with the plans of an evaluation: to read, and to measure."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, replace

from rewards.encode import GeneratorEncoder
from train.analysis.rows import Attempt, Evaluation, Row, answer_row
from train.analysis.texts import text_metrics
from train.evaluation.contestants import Planner
from train.journal import Journal
from train.progress import Did, ProgressDisplay
from train.schema import EvaluationConfig
from train.writing import write_chapter


def with_chapters(
    evaluation: Evaluation,
    encoder: GeneratorEncoder,
    generator: Planner,
    journal: Journal,
    config: EvaluationConfig,
    seed: int,
    progress: ProgressDisplay,
) -> Evaluation:
    """The evaluation with chapters written for some episodes: with each agent's plan, greedy where
    there are such, and without a plan.

    The episodes are those of the best plan of the last agent, of the worst, and of some between. A
    chapter that `journal` holds is taken from there.
    """
    shown = answer_row(evaluation.rows)
    if shown is None or not config.num_written:
        return evaluation
    chosen = spread_by_rank(shown, config.num_written)

    def chapter_of(attempt: Attempt, did: Did) -> str:
        how = asdict(config.writing)
        key = {"written": attempt.episode.episode_id, "plan": attempt.plan, "how": how}
        kept = journal.get({**key, "seed": seed})
        seconds = None
        if kept is None:
            started = time.perf_counter()
            request = encoder.request(attempt.episode, attempt.plan)
            kept = write_chapter(*generator.load(), request, config.writing, seed)
            seconds = time.perf_counter() - started
            journal.keep({**key, "seed": seed}, kept)
        did(1, seconds)
        return kept

    written = {
        row.label
        for row in evaluation.rows
        if row.name == "empty_plan" or row.decoding == shown.decoding
    }
    rows = []
    with progress.paced("write chapters", len(written) * len(chosen)) as did:
        for row in evaluation.rows:
            if row.label not in written:
                rows.append(row)
                continue
            attempts = []
            for attempt in row.attempts:
                if attempt.episode.episode_id in chosen:
                    attempt = replace(attempt, chapter=chapter_of(attempt, did))
                attempts.append(attempt)
            rows.append(_measured(row, attempts))
    return replace(evaluation, rows=tuple(rows))


def spread_by_rank(row: Row, number: int) -> Collection[str]:
    """Episodes of the row, from the one with the best plan to that with the worst."""
    ranked = sorted(row.attempts, key=lambda attempt: -attempt.improvement)
    places = {round(i * (len(ranked) - 1) / max(1, number - 1)) for i in range(number)}
    return {ranked[place].episode.episode_id for place in places}


def _measured(row: Row, attempts: list[Attempt]) -> Row:
    made = [(a.episode, a.chapter) for a in attempts if a.chapter is not None]
    measures = text_metrics([episode for episode, _ in made], [text for _, text in made])
    counted = {"chapters" if name == "plans" else name: v for name, v in measures.items()}
    return replace(row, attempts=tuple(attempts), chapters=counted)
