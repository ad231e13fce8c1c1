"""A run folder explains itself and belongs to one process at a time."""

from __future__ import annotations

import json
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from train.run_folder import RunFolder


def test_a_new_run_saves_its_config_resolved_and_its_revision(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 3, "name": "seed ${seed}", "rate": 1e-5, "text": "é\n${x}"})
    config.text = "é\n\\${x}"
    with RunFolder.create(tmp_path / "run", config) as folder:
        assert folder.load_config() == {
            "seed": 3,
            "name": "seed 3",
            "rate": 1e-5,
            "text": "é\n${x}",
        }
    revision = json.loads(folder.revision_path.read_text())
    assert set(revision) == {"git", "python", "platform", "packages"}
    assert revision["packages"]["torch"].startswith("2.")


def test_the_readme_names_every_path_of_the_folder(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {}) as folder:
        readme = (folder.path / "README.md").read_text()
    for name, attribute in vars(RunFolder).items():
        if isinstance(attribute, property):
            assert f"`{getattr(folder, name).name}" in readme, name
    for stage in ("generator", "warm_start", "sft_baseline"):
        assert f"`{folder.model_dir(stage).name}/`" in readme
    assert f"resume={folder.path}" in readme


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"seed": 1}).close()
    with pytest.raises(ValueError, match=r"run: holds a run already; .*resume="):
        RunFolder.create(tmp_path / "run", {"seed": 2})
    assert RunFolder.open(tmp_path / "run").load_config() == {"seed": 1}


def test_the_same_evaluation_goes_on_where_it_did_not_end(tmp_path: Path) -> None:
    settings = {"seed": 1, "decodings": ("greedy", "sampled")}
    RunFolder.for_evaluation(tmp_path / "run", settings).close()
    with RunFolder.for_evaluation(tmp_path / "run", settings) as again:
        assert again.load_config()["seed"] == 1
    with pytest.raises(ValueError, match="holds a run already"):
        RunFolder.for_evaluation(tmp_path / "run", {**settings, "seed": 2})
    again.evaluation_path.write_text("{}")
    with pytest.raises(ValueError, match="holds a run already"):
        RunFolder.for_evaluation(tmp_path / "run", settings)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty \(it holds README.md\)"):
        RunFolder.create(tmp_path, {})
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_config_that_does_not_resolve_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        RunFolder.create(tmp_path / "run", OmegaConf.create({"a": "${nobody}"}))
    assert not (tmp_path / "run").exists()


def test_a_second_process_is_refused_while_the_run_is_alive(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {}):
        with pytest.raises(ValueError, match="run: another process is at work"):
            RunFolder.open(tmp_path / "run", to_write=True)
        RunFolder.open(tmp_path / "run")
    RunFolder.open(tmp_path / "run", to_write=True).close()


def test_a_process_of_a_job_waits_for_what_is_left_of_the_last_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTCHAPTER_BEAT", str(tmp_path / "beat.json"))
    with ThreadPoolExecutor(1) as waiting:
        with RunFolder.create(tmp_path / "run", {}):
            held = waiting.submit(lambda: RunFolder.open(tmp_path / "run", to_write=True).close())
        held.result()


def test_a_run_for_which_a_full_disk_has_no_room_is_taken_back(tmp_path: Path) -> None:
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError) as told:
            RunFolder.create(tmp_path / "run", {"seed": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.filename == str(tmp_path / "run" / "revision.json")
    assert list((tmp_path / "run").iterdir()) == []
    RunFolder.create(tmp_path / "run", {"seed": 1}).close()


def test_of_two_that_make_one_run_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(ValueError, match="another process is at work in this run"),
    ):
        RunFolder.create(tmp_path / "run", {"seed": 1})


def test_a_missing_or_foreign_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone: no such run folder"):
        RunFolder.open(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"not a run folder, config.yaml is missing"):
        RunFolder.open(tmp_path)


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config.yaml: not readable as YAML"):
        RunFolder.open(tmp_path).load_config()


def test_secrets_stay_out_of_the_saved_config(tmp_path: Path) -> None:
    config = {"agent": {"api_key": "sk-1", "max_tokens": 5, "token": "a"}, "db": [{"password": 1}]}
    with RunFolder.create(tmp_path / "run", config) as folder:
        saved = folder.config_path.read_text()
    assert "sk-1" not in saved
    assert folder.load_config()["agent"]["max_tokens"] == 5
