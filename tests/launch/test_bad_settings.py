"""A setting that cannot work is refused in one line that names it, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("trainer.learning_rat=1e-3", "trainer.learning_rat"),
        ("trainer.learning_rate=-1", "trainer.learning_rate"),
        ("trainer.max_steps=many", "trainer.max_steps"),
        ("trainer.trl={no_such_field: 1}", "trainer.trl.no_such_field"),
        ("trainer.per_device_batch_size=100", "trainer.per_device_batch_size"),
        ("generator.model.path=nowhere/model", "generator.model.path"),
        ("env.parser.pattern='('", "env.parser.pattern"),
        ("reward.shaping._target_=rewards.shaping.Rawest", "reward.shaping._target_"),
        ("reward.rules.no_plan=nothing", "reward.rules.no_plan"),
        ("data.test_books=0", "data.test_books"),
        ("experiment=real_book", "experiment"),
        ("evaluation.split=dev", "evaluation.split"),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(
    override: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", override]) == 2
    error = capsys.readouterr().err.strip()
    assert named in error
    assert len(error.splitlines()) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_books_that_are_not_there_are_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "experiment=real_books", "data.paths=[shelf]"]) == 2
    error = capsys.readouterr().err.strip()
    assert "shelf" in error
    assert len(error.splitlines()) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
