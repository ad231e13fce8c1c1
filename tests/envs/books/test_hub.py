"""Hugging Face datasets on local disk: saved ones, folders of files, names that lead nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import config

from envs.books import BookError, read_shelf

RECORDS = [
    {"title": name, "author": "Ann Author",
     "chapters": [{"title": "1", "text": f"{name} one."}, {"title": "2", "text": f"{name} two."}]}
    for name in ("Mill", "Flood")
]  # fmt: skip


def titles(source: str | Path) -> list[str]:
    return [book.title for book in read_shelf([source]).books]


def refusal(source: str) -> str:
    with pytest.raises(BookError) as caught:
        read_shelf([source])
    message = str(caught.value)
    assert message.startswith(source) and "\n" not in message
    return message


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_saved_dataset_is_read_with_and_without_its_prefix(tmp_path: Path) -> None:
    datasets.Dataset.from_list(RECORDS).save_to_disk(tmp_path / "saved")
    assert titles(f"hf:{tmp_path / 'saved'}") == ["Mill", "Flood"]
    assert titles(tmp_path / "saved") == ["Mill", "Flood"]
    (first, _) = read_shelf([tmp_path / "saved"]).books
    assert [(c.title, c.text) for c in first.chapters] == [("1", "Mill one."), ("2", "Mill two.")]


def test_a_split_is_chosen_by_its_name(tmp_path: Path) -> None:
    splits = {"train": RECORDS[:1], "test": RECORDS[1:]}
    saved = datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in splits.items()})
    saved.save_to_disk(tmp_path / "saved")
    assert titles(f"hf:{tmp_path / 'saved'}:test") == ["Flood"]
    assert titles(f"hf:{tmp_path / 'saved'}") == ["Mill", "Flood"]
    assert "it has no split 'dev'" in refusal(f"hf:{tmp_path / 'saved'}:dev")


def test_a_folder_of_parquet_and_a_file_of_jsonl_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    folder.mkdir()
    datasets.Dataset.from_list(RECORDS).to_parquet(folder / "train.parquet")
    assert titles(f"hf:{folder}") == ["Mill", "Flood"]
    assert titles(f"hf:{folder / 'train.parquet'}") == ["Mill", "Flood"]
    lines = tmp_path / "books.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    assert titles(f"hf:{lines}:train") == ["Mill", "Flood"]


def test_published_rows_of_a_dataset_are_episodes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"story_id": "mill", "chapter_index": n, "next_chapter": f"Rain {n}.",
         "character_sheets": {"Ann": "A miller."}} for n in (1, 2)
    ]  # fmt: skip
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    shelf = read_shelf([tmp_path / "saved"])
    assert [episode.episode_id for episode in shelf.episodes] == ["mill/1", "mill/2"]


def test_columns_that_hold_no_books_are_named(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"text": "x", "label": 1}]).save_to_disk(tmp_path / "saved")
    assert "has no 'chapters' but ['label', 'text']" in refusal(f"hf:{tmp_path / 'saved'}")


def test_a_dataset_with_code_of_its_own_is_refused_and_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "coded"
    folder.mkdir()
    (folder / "coded.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "cannot be loaded" in refusal(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "no such dataset" in refusal(f"hf:{tmp_path / 'nowhere'}")


def test_a_name_that_cannot_be_reached_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    assert "cannot be loaded" in refusal("hf:nobody-at-all/no-such-books")
