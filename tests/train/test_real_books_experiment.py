"""The four stages on a shelf of books, each for a step or two."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from rich.console import Console

from train import pipeline
from train.commands.evaluate import kept_models
from train.config.validate import parse
from train.progress import ProgressDisplay
from train.results import evaluate
from train.run import Run
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

# TRL reads names that transformers has renamed; nothing here can mend it.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

HEROES = ("Anselm", "Brida", "Corvin", "Dagny", "Emrik", "Folke", "Gerda")
COLOURS = ("azure", "beige", "cyan", "drab", "ecru", "fawn", "gold", "hazel", "ivory", "jade")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Seven books of four chapters."""
    path = tmp_path / "shelf.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, hero in enumerate(HEROES):
            chapters = [
                f"It was late when {hero} came home with the {colour} lantern. The ferry of "
                f"{hero}holm had left, and {hero} had to wait for a {colour} morning."
                for colour in COLOURS[number : number + 4]
            ]
            book = {"title": f"The Life of {hero}", "author": "A. Writer", "chapters": chapters}
            file.write(json.dumps(book) + "\n")
    return path


def test_the_real_books_experiment_goes_from_books_to_a_table(
    compose_train: Callable[..., DictConfig], shelf: Path, tmp_path: Path
) -> None:
    composed = compose_train(
        "experiment=real_books",
        f"data.paths=[{shelf}]",
        "data.min_word_stretches=0",
        "data.max_word_share=0.5",
        "data.num_demonstrations=20",
        "generator.model.vocab_size=400",
        "generator.reading.0.max_steps=1",
        "generator.training.0.max_steps=1",
        "generator.training.1.max_steps=1",
        "warm_start.max_steps=1",
        "sft_baseline.max_steps=1",
        "trainer.max_steps=1",
        "trainer.episodes_per_step=2",
        "trainer.per_device_batch_size=16",
        "trainer.max_completion_length=8",
        "sampling.max_new_tokens=8",
        "evaluation.bootstrap_samples=100",
        "logging.wandb=disabled",
        "logging.tensorboard=false",
        f"run_dir={tmp_path}/run",
        f"cache_dir={tmp_path}/cache",
    )
    run = Run.prepare(parse(RunConfig, composed), ProgressDisplay())
    with RunFolder.create(tmp_path / "run", composed) as folder:
        evaluation = pipeline.train(run, folder)
    assert {row.name for row in evaluation.rows} == {
        *("untrained", "trained", "empty_plan", "shuffled_plan", "inferable_plan", "true_plan"),
        *("random_words", "sft_baseline"),
    }
    assert {row.name for row in evaluation.ablations} == {"true_but_names", "true_but_words"}
    assert evaluation.row("empty_plan").improvement.mean == 0.0
    assert all(math.isfinite(row.improvement.mean) for row in evaluation.rows)
    # Of seven books two are kept for the test; each of its chapters but the first is foretold.
    assert {a.episode.episode_id.rsplit("/")[1] for a in evaluation.rows[0].attempts} == set("123")
    assert len({a.episode.book_id for row in evaluation.rows for a in row.attempts}) == 2

    # What the run trained it keeps, and is judged by again when nothing else is left of it.
    shutil.rmtree(tmp_path / "cache")
    shown = io.StringIO()
    saved = parse(RunConfig, folder.load_config())
    again = Run.prepare(saved, ProgressDisplay(Console(file=shown)), kept_models(folder, saved))
    trained = {"trained": ModelConfig(path=str(folder.policy_dir))}
    assert evaluate(again, trained) == evaluation
    assert not any(title in shown.getvalue() for title in ("generator,", "warm start", "SFT"))
    # But for the likelihoods without a plan and what was evaluated, nothing was made again.
    made_again = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert made_again == ["evaluations", "likelihoods"]
