"""A setting that cannot work is refused in one line that names it, before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")


def refusal(folder: Path, *arguments: str) -> str:
    """What `nextchapter train` says when it refuses; a process of its own, since Hydra sets up
    logging for the whole process."""
    done = subprocess.run(
        [*NEXTCHAPTER, "train", *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("trainer.learning_rat=1e-3", "trainer.learning_rat"),
        ("trainer.learning_rate=-1", "trainer.learning_rate"),
        ("trainer.max_steps=many", "trainer.max_steps"),
        ("+trainer.trl.no_such_field=1", "trainer.trl.no_such_field"),
        ("trainer.per_device_batch_size=100", "trainer.per_device_batch_size"),
        ("trainer.num_iterations=3", "trainer.save_steps"),
        ("data.train_books=3", "trainer.episodes_per_step"),
        ("checkpoints.keep_last=0", "checkpoints.keep_last"),
        ("+curriculum._target_=train.curriculum.ByWidth", "curriculum._target_"),
        ("generator.model.path=nowhere/model", "generator.model.path"),
        ("env.parser.pattern='('", "env.parser.pattern"),
        ("reward.terms.raw.term._target_=rewards.terms.raw.Ray", "reward.terms.raw.term._target_"),
        ("reward.terms.raw.weight=none", "reward.terms.raw.weight"),
        ("reward.terms.raw.weight=0", "reward.terms"),
        ("+reward.terms.raw.wieght=2", "reward.terms.raw.wieght"),
        ("reward.rules.no_plan=nothing", "reward.rules.no_plan"),
        ("data.test_books=0", "data.test_books"),
        ("experiment=real_book", "experiment"),
        ("evaluation.split=dev", "evaluation.split"),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(override: str, named: str, tmp_path: Path) -> None:
    line = refusal(tmp_path, override)
    assert line.startswith("nextchapter train: ")
    assert named in line


def test_books_that_are_not_there_are_one_line_and_status_2(tmp_path: Path) -> None:
    assert "shelf" in refusal(tmp_path, "experiment=real_books", "data.paths=[shelf]")
