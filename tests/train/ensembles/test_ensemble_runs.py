"""Whole runs of ensembles: fitted, evaluated, evaluated again, and asked to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict

from train.commands import evaluate, train, write

TINY = (
    *("+data.writing_books=6", "data.demonstration_books=4", "data.train_books=4"),
    *("data.validation_books=2", "data.test_books=3", "writers=storyworld_halves"),
    *("writers.north.training.0.max_steps=2", "writers.south.training.0.max_steps=2"),
    *("writers.weak.training.0.max_steps=1", "evaluation.bootstrap_samples=100"),
    *("writers.north.training.0.data.writing_books=8", "logging.wandb=disabled"),
    *("writers.south.training.0.data.writing_books=8", "logging.tensorboard=false"),
    "writers.weak.training.0.data.writing_books=8",
)


@pytest.fixture
def composed(compose_train: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    def compose(name: str, *overrides: str) -> DictConfig:
        folders = [f"run_dir={tmp_path / name}", f"cache_dir={tmp_path / 'cache'}"]
        return compose_train(*TINY, *folders, *overrides)

    return compose


def evaluation_in(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return {row["name"]: row["improvement"]["mean"] for row in found["rows"]}


def test_an_ensemble_is_fitted_judged_and_asked_to_write(
    composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = ("env=route_knn", "env.leave_one_out=true", "env.neighbours=3")
    train.run(composed("run", *env))
    rows = evaluation_in(tmp_path / "run")
    writers = ("generator", "north", "south", "weak")
    alone = [f"writer_{name}" for name in writers]
    left_out = [f"without_{name}" for name in writers]
    controls = ["best_single", "random_writer", "oracle", "empty_plan", "random_words"]
    assert set(rows) == {*alone, *left_out, *controls, "untrained", "trained"}
    assert rows["writer_generator"] == rows["empty_plan"] == 0
    assert rows["oracle"] >= max(rows[name] for name in (*alone, "trained"))
    assert rows["best_single"] in [rows[name] for name in alone]
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    asked = {(c["first"], c["second"]) for c in found["comparisons"]}
    assert ("trained", "untrained") in asked and ("trained", "best_single") in asked
    assert ("trained", "without_north") in asked
    assert {first for first, _ in asked} == {"trained", "untrained"}
    assert not any("oracle" in pair or "writer_north" in pair for pair in asked)
    assert 0 <= found["ahead"]["trained"]["mean"] <= 1
    again = composed("again", *env)
    with open_dict(again):
        again.run = str(tmp_path / "run")
        again.checkpoint = None
    evaluate.run(again)
    assert evaluation_in(tmp_path / "again") == rows
    with open_dict(again):
        again.run_dir = str(tmp_path / "refused")
        again.checkpoint = "checkpoint-1"
    with pytest.raises(ValueError, match="checkpoint: an ensemble has none"):
        evaluate.run(again)
    wanted = composed("written", *env)
    with open_dict(wanted):
        wanted.run, wanted.book, wanted.chapter = str(tmp_path / "run"), "test-0", 1
    capsys.readouterr()
    write.run(wanted)
    assert "Improvement on the author's chapter" in capsys.readouterr().out


def test_an_ensemble_that_cannot_do_without_a_writer_says_so_before_it_is_fitted(
    composed: Callable[..., DictConfig],
) -> None:
    env = ("env=cascade_uncertainty", "env.writers=[weak]", "env.leave_one_out=true")
    with pytest.raises(ValueError, match=r"name two or more|of two writers"):
        train.run(composed("run", *env))
