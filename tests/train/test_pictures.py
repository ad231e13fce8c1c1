"""What a reader of a run looks at: three examples side by side, and the learning curve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.prompts import Prompts
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.types import Likelihood
from train.analysis.rows import Attempt, Evaluation, Row
from train.examples import write_examples
from train.plots import plot_learning_curve, read_curve
from train.statistics import Interval

MakeEpisode = Callable[..., Episode]


def attempt(episode: Episode, encoder: GeneratorEncoder, improvement: float) -> Attempt:
    """The plan gains half a nat on the first gold token, loses a quarter on the second."""
    num_tokens = len(encoder.request(episode).gold_ids)
    after = (1.5, 2.25, *(2.0,) * (num_tokens - 2))
    costs = [(2.0,) * num_tokens, after]
    baseline, with_plan = (Likelihood(sum(cost), cost) for cost in costs)
    return Attempt(episode, f"Plan for {episode.episode_id}.", improvement, with_plan, baseline)


@pytest.fixture
def evaluation(make_episode: MakeEpisode, encoder: GeneratorEncoder) -> Evaluation:
    """A trained agent whose five attempts improve by 10, 20, 30, 40 and 50 per cent."""
    attempts = tuple(attempt(make_episode(f"book/{i}"), encoder, 10.0 * i) for i in range(1, 6))
    rows = [
        Row(name, decoding, Interval(30.0, (10.0, 50.0)), attempts)
        for name, decoding in (("untrained", "greedy"), ("trained", "greedy"), ("true_plan", None))
    ]
    return Evaluation(tuple(rows), ())


def test_examples_show_the_best_the_median_and_the_worst_in_full(
    evaluation: Evaluation, encoder: GeneratorEncoder, tmp_path: Path
) -> None:
    write_examples(evaluation, Prompts(), encoder, 3, tmp_path / "examples.md")
    text = (tmp_path / "examples.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## book/5: +50.00 % (rank 1 of 5)",
        "## book/3: +30.00 % (rank 3 of 5)",
        "## book/1: +10.00 % (rank 5 of 5)",
    ]
    for shown in (
        "**So far**\n\nAnn owes Bob a ring.",
        "### Plan\n\nPlan for book/3.",
        "### Gold chapter\n\nAnn went to the mill and paid what she owed.",
    ):
        assert shown in text
    assert "Synopsis" not in text


def test_each_token_that_a_plan_moved_carries_its_gain(
    evaluation: Evaluation, encoder: GeneratorEncoder, tmp_path: Path
) -> None:
    write_examples(evaluation, Prompts(), encoder, 1, tmp_path / "examples.md")
    gains = (tmp_path / "examples.md").read_text(encoding="utf-8").rpartition("in nats\n\n")[2]
    gold_ids = encoder.request(evaluation.rows[1].attempts[0].episode).gold_ids
    first, second, *rest = (str(encoder.tokenizer.decode([token])) for token in gold_ids)
    assert gains == f"{first}[+0.5]{second}[-0.2]{''.join(rest)}\n".replace("\n\n", "  ")


def test_an_evaluation_without_a_trained_agent_has_no_examples(
    evaluation: Evaluation, encoder: GeneratorEncoder, tmp_path: Path
) -> None:
    untrained = Evaluation(evaluation.rows[:1], ())
    write_examples(untrained, Prompts(), encoder, 3, tmp_path / "examples.md")
    write_examples(evaluation, Prompts(), encoder, 0, tmp_path / "examples.md")
    assert not (tmp_path / "examples.md").exists()


def test_the_learning_curve_is_a_picture_of_what_was_measured(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "improvement": -3.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "improvement": None},
        {"step": 4, "improvement": 12.5},
    ]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curve(metrics, "improvement") == ([1, 4], [-3.0, 12.5])
    plot_learning_curve(metrics, evaluation, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_measurements_still_has_a_picture(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    plot_learning_curve(tmp_path / "metrics.jsonl", evaluation, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
