"""A checkpoint is there and whole, or it is not used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from train.checkpoints import Checkpoints, weights_fingerprint
from train.manifest import Damaged, check_whole, read_manifest, write_manifest
from train.settings.checkpoints import CheckpointConfig

POLICY = {"policy model": "abc"}


class Counter:
    """A part of a run that remembers one number."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def state(self) -> dict[str, Any]:
        return {"number": self.number}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.number = state["number"]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str]) -> Callable[..., Checkpoints]:
    def make(made_from: Mapping[str, str] = POLICY, **policy: Any) -> Checkpoints:
        config = CheckpointConfig(**policy)
        return Checkpoints(tmp_path / "run" / "checkpoints", config, made_from, said.append)

    (tmp_path / "run").mkdir()
    return make


def save(checkpoints: Checkpoints, *steps: int) -> None:
    """What a trainer writes at these steps, and what is kept of it."""
    for step in steps:
        staged = checkpoints.staging_dir / f"checkpoint-{step}"
        (staged / "shards").mkdir(parents=True)
        (staged / "model.safetensors").write_bytes(b"weights" * step)
        (staged / "shards" / "1.pt").write_bytes(b"moments")
        (staged / "training_args.bin").write_bytes(b"a pickle")
        checkpoints.keep(step, {"counter": Counter(step)})


def kept(checkpoints: Checkpoints) -> set[str]:
    return {p.name for p in checkpoints.folder.iterdir()} - {checkpoints.staging_dir.name}


def test_the_newest_checkpoint_brings_back_the_parts_of_the_run(
    make: Callable[..., Checkpoints],
) -> None:
    assert make().newest() is None
    save(make(), 8, 10)
    found = make().newest()
    assert found is not None
    assert (found.step, found.path.name) == (10, "checkpoint-10")
    counter = Counter()
    found.restore({"counter": counter})
    assert counter.number == 10


def test_a_checkpoint_lists_all_its_files_by_sha256_and_holds_no_pickled_settings(
    make: Callable[..., Checkpoints],
) -> None:
    save(make(), 1)
    found = make().newest()
    assert found is not None
    assert set(read_manifest(found.path).files) == {
        "model.safetensors",
        "shards/1.pt",
        "parts.json",
    }
    # printf weights | sha256sum
    assert read_manifest(found.path).files["model.safetensors"].startswith("9a129038d9a00aed")
    assert not (found.path / "training_args.bin").exists()


def test_what_a_killed_process_was_saving_is_no_checkpoint(
    make: Callable[..., Checkpoints],
) -> None:
    checkpoints = make()
    save(checkpoints, 2)
    (checkpoints.staging_dir / "checkpoint-4").mkdir(parents=True)
    (checkpoints.staging_dir / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    found = make().newest()
    assert found is not None
    assert found.step == 2
    assert not checkpoints.staging_dir.exists()


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[5] ^= 1
    (path / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip_a_bit, "model.safetensors is not what was saved"),
        (lambda p: (p / "model.safetensors").write_bytes(b"wei"), "model.safetensors is not what"),
        (lambda p: (p / "shards" / "1.pt").unlink(), "shards/1.pt is missing"),
        (lambda p: (p / "parts.json").write_text("{}"), "parts.json is not what was saved"),
        (lambda p: (p / "checkpoint.json").unlink(), "checkpoint.json is missing"),
        (lambda p: (p / "checkpoint.json").write_text('{"step": '), "checkpoint.json cannot be"),
        (lambda p: (p / "checkpoint.json").write_text("[]"), "checkpoint.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    make: Callable[..., Checkpoints],
    said: list[str],
    damage: Callable[[Path], object],
    named: str,
) -> None:
    checkpoints = make()
    save(checkpoints, 8, 10)
    damage(checkpoints.folder / "checkpoint-10")
    found = make().newest()
    assert found is not None
    assert found.step == 8
    assert f"checkpoint-10: {named}" in said[0]
    # It is out of the way of the one that the resumed run writes at the same step.
    save(make(), 10)
    assert kept(checkpoints) == {"checkpoint-8", "checkpoint-10", "checkpoint-10.damaged"}


def test_without_a_whole_checkpoint_a_run_does_not_begin_anew_by_itself(
    make: Callable[..., Checkpoints],
) -> None:
    save(make(), 8)
    flip_a_bit(make().folder / "checkpoint-8")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"no checkpoint is whole \(checkpoint-8.damaged\)"):
            make().newest()


def test_a_checkpoint_of_another_model_is_refused(make: Callable[..., Checkpoints]) -> None:
    save(make(), 8)
    with pytest.raises(ValueError, match=r"checkpoint-8: was made from another policy model than"):
        make({"policy model": "xyz"}).newest()
    with pytest.raises(ValueError, match=r"another trainer than this run"):
        make({**POLICY, "trainer": "PpoSettings"}).newest()
    assert kept(make()) == {"checkpoint-8"}


def test_another_number_of_processes_is_told(
    make: Callable[..., Checkpoints], said: list[str]
) -> None:
    save(make(), 8)
    write_manifest(make().folder / "checkpoint-8", 8, 4, POLICY)
    assert make().newest() is not None
    assert "saved by 4 processes and goes on with 1" in said[0]


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ({"keep_last": 1}, {60}),
        ({}, {50, 60}),
        ({"keep_last": 1, "keep_every": 20}, {20, 40, 60}),
        ({"keep_last": 3, "keep_every": 30}, {30, 40, 50, 60}),
    ],
)
def test_checkpoints_are_kept_by_policy(
    make: Callable[..., Checkpoints], policy: dict[str, int], left: set[int]
) -> None:
    checkpoints = make(**policy)
    save(checkpoints, 10, 20, 30, 40, 50, 60)
    assert kept(checkpoints) == {f"checkpoint-{step}" for step in left}


def test_a_failed_save_says_what_is_left_and_clears_up(make: Callable[..., Checkpoints]) -> None:
    checkpoints = make()
    save(checkpoints, 8)
    with (
        pytest.raises(
            OSError, match=r"checkpoint-10 could not be saved \(no room;.*checkpoint-8 is"
        ),
        checkpoints.explaining(),
    ):
        (checkpoints.staging_dir / "checkpoint-10").mkdir(parents=True)
        raise RuntimeError("no room")
    assert kept(checkpoints) == {"checkpoint-8"}
    assert not checkpoints.staging_dir.exists()


def test_another_failure_is_left_as_it_is(make: Callable[..., Checkpoints]) -> None:
    with pytest.raises(RuntimeError, match="lost"), make().explaining():
        raise RuntimeError("lost")


def test_a_checkpoint_that_is_named_for_evaluation_is_checked(
    make: Callable[..., Checkpoints], tmp_path: Path
) -> None:
    save(make(), 8)
    check_whole(make().folder / "checkpoint-8")
    # A model from elsewhere has no manifest to be checked against.
    check_whole(tmp_path)
    flip_a_bit(make().folder / "checkpoint-8")
    with pytest.raises(Damaged, match=r"checkpoint-8: model.safetensors is not what was saved"):
        check_whole(make().folder / "checkpoint-8")


def test_models_are_told_apart_by_their_weights_and_not_by_where_they_lie() -> None:
    def model(seed: int, width: int = 4) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Linear(3, width)

    assert weights_fingerprint(model(0)) == weights_fingerprint(model(0))
    others = [model(1), model(0, width=5), model(0).bfloat16(), nn.Sequential(model(0))]
    found = {weights_fingerprint(other) for other in others}
    assert len({weights_fingerprint(model(0)), *found}) == 5


def test_a_manifest_is_plain_json(make: Callable[..., Checkpoints]) -> None:
    save(make(), 8)
    manifest = json.loads((make().folder / "checkpoint-8" / "checkpoint.json").read_text())
    assert (manifest["step"], manifest["processes"], manifest["made_from"]) == (8, 1, POLICY)


def test_a_part_that_a_checkpoint_does_not_know_is_named(make: Callable[..., Checkpoints]) -> None:
    save(make(), 8)
    found = make().newest()
    assert found is not None
    with pytest.raises(ValueError, match=r"checkpoint-8: says nothing of 'monitors'"):
        found.restore({"monitors": Counter()})
