"""Whole runs of ensembles: fitted, evaluated, evaluated again, and asked to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, open_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.commands import evaluate, train, write
from train.commands.evaluate import with_policy
from train.config.validate import parse
from train.models import save_model
from train.progress import ProgressDisplay
from train.run import Run
from train.run_folder import RunFolder
from train.schema import RunConfig

BOOKS = (
    *("+data.writing_books=6", "data.demonstration_books=4", "data.train_books=4"),
    *("data.validation_books=2", "data.test_books=3", "evaluation.bootstrap_samples=100"),
    *("logging.wandb=disabled", "logging.tensorboard=false"),
)
SPECIALISTS = (
    *("writers.north.training.0.max_steps=2", "writers.south.training.0.max_steps=2"),
    "writers.north.training.0.data.writing_books=8",
    "writers.south.training.0.data.writing_books=8",
)
HALVES = (
    *("writers=storyworld_halves", *SPECIALISTS, "writers.weak.training.0.max_steps=1"),
    "writers.weak.training.0.data.writing_books=8",
)
SIZES = (
    *("writers=storyworld_sizes", *SPECIALISTS, "writers.small.training.0.max_steps=2"),
    *("writers.small.training.0.data.writing_books=8", "writers.small.reading=[]"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def composed(
    compose_train: Callable[..., DictConfig], tmp_path: Path, cache: Path
) -> Callable[..., DictConfig]:
    def compose(name: str, *overrides: str, writers: tuple[str, ...] = HALVES) -> DictConfig:
        folders = [f"run_dir={tmp_path / name}", f"cache_dir={cache}"]
        return compose_train(*BOOKS, *writers, *folders, *overrides)

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


@pytest.mark.parametrize(
    ("env", "writers", "told"),
    [
        (
            ("env=fusion_mixture", "env.max_chapters=6", "env.epochs=1"),
            SIZES,
            "Written by generator, north, south, small, token by token.",
        ),
        (("env=merge_linear",), HALVES, "Written by merged_linear_"),
        # Without a budget the first writer keeps the chapter: the smallest, as nobody is named.
        (("env=cascade_uncertainty", "env.budget=0", "env.draft_tokens=4"), SIZES, "by small."),
    ],
    ids=["fusion", "merge", "cascade"],
)
def test_a_chapter_is_written_by_a_fusion_a_merge_and_a_cascade(
    env: tuple[str, ...],
    writers: tuple[str, ...],
    told: str,
    composed: Callable[..., DictConfig],
    tmp_path: Path,
) -> None:
    wanted = composed("written", *env, writers=writers)
    with open_dict(wanted):
        wanted.book, wanted.chapter = "test-0", 1
        wanted.writing = {"max_new_tokens": 8}
    write.run(wanted)
    written = (tmp_path / "written" / "chapter.md").read_text(encoding="utf-8")
    assert told in written
    assert "Improvement on the author's chapter" in written
    assert written.partition("## Chapter\n\n")[2].strip()


def test_writers_of_two_sizes_are_no_merge(composed: Callable[..., DictConfig]) -> None:
    named = ("env=merge_linear", "env.writers=[north,small]")
    with pytest.raises(ValueError, match=r"cannot be merged: hidden_size is \d+ for one and 64"):
        train.run(composed("run", *named, writers=SIZES))


def test_the_policy_that_chooses_is_that_of_the_config_or_of_the_run(
    composed: Callable[..., DictConfig],
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    for seed, folder in enumerate(("given", "trained/policy"), start=5):
        save_model(make_model(seed=seed), tokenizer, tmp_path / folder)
    plain = ("env=route_policy", f"policy.model={{path: {tmp_path / 'given'}}}")
    prepared = Run.prepare(parse(RunConfig, composed("run", *plain)), ProgressDisplay())
    after = with_policy(prepared, RunFolder(tmp_path / "trained"))
    for run, seed in ((prepared, 5), (after, 6)):
        loaded, expected = run.shelf.policy.model, make_model(seed=seed)
        found = zip(loaded.parameters(), expected.parameters(), strict=True)
        assert all(torch.equal(own.cpu(), its) for own, its in found)
    # An env that does not ask the policy is as it was.
    other = composed("other", "env=route_encoder")
    unasked = Run.prepare(parse(RunConfig, other), ProgressDisplay())
    assert with_policy(unasked, RunFolder(tmp_path / "trained")) is unasked
