"""Chapters that the generator writes with the plans of an evaluation."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.sampling import Sampling
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.types import Likelihood
from train.analysis.rows import Attempt, Evaluation, Row
from train.evaluation.contestants import Planner
from train.journal import Journal
from train.progress import ProgressDisplay
from train.schema import EvaluationConfig
from train.statistics import Interval
from train.written import with_chapters

QUIET = ProgressDisplay(Console(file=io.StringIO()))
WRITING = Sampling(max_new_tokens=6, temperature=0.0)
NOTHING = Likelihood(1.0, (1.0,))


def row(name: str, decoding: str | None, plans: dict[str, float], of: list[Episode]) -> Row:
    pairs = zip(of, plans.items(), strict=True)
    attempts = [Attempt(e, plan, gain, NOTHING, NOTHING) for e, (plan, gain) in pairs]
    return Row(name, decoding, Interval(0.0, (0.0, 0.0)), tuple(attempts))


def test_chapters_are_written_for_the_best_plan_the_worst_and_some_between(
    make_episode: Callable[..., Episode],
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    tmp_path: Path,
) -> None:
    episodes = [make_episode(f"book/{i}") for i in range(5)]
    gains = {"Ann pays.": 1.0, "Bob runs.": 5.0, "They meet.": 3.0, "It rains.": -2.0, "Go.": 0.0}
    loaded: list[int] = []

    def load() -> Any:
        loaded.append(1)
        varied = {"tie_word_embeddings": False, "initializer_range": 0.3}
        return make_model(**varied), tokenizer

    evaluation = Evaluation(
        (
            row("trained", "greedy", gains, episodes),
            row("trained", "sampled", gains, episodes),
            row("empty_plan", None, {" " * i: 0.0 for i in range(5)}, episodes),
            row("true_plan", None, gains, episodes),
        ),
        (),
    )
    config = replace(EvaluationConfig(), num_written=3, writing=WRITING)

    def written() -> Evaluation:
        journal = Journal(tmp_path, {})
        generator = Planner("generator", load)
        return with_chapters(evaluation, encoder, generator, journal, config, 0, QUIET)

    found = written()
    agent, sampled, empty, true = found.rows
    # Ranked 5, 3, 1, 0, -2: the first, the third and the last.
    assert [a.episode.episode_id for a in agent.attempts if a.chapter is not None] == [
        *("book/0", "book/1", "book/3")
    ]
    assert agent.chapters["chapters"] == empty.chapters["chapters"] == 3
    assert "plans" not in agent.chapters and not sampled.chapters and not true.chapters
    assert agent.attempts[0].chapter != empty.attempts[0].chapter
    # What is written is kept: a second time no model is loaded.
    num_loaded = len(loaded)
    assert written() == found
    assert len(loaded) == num_loaded

    config = replace(config, num_written=0)
    assert written() is evaluation
