"""A run is evaluated with the models that it kept, as long as the settings ask for no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig

from train.commands.evaluate import kept_models
from train.config.validate import parse
from train.run_folder import RunFolder
from train.schema import RunConfig

STAGES = {"generator", "warm_start", "sft_baseline"}


@pytest.fixture
def config(compose_train: Callable[..., DictConfig]) -> DictConfig:
    return compose_train("generator=storyworld_scratch")


@pytest.fixture
def trained(config: DictConfig, tmp_path: Path) -> RunFolder:
    """The folder of a run that kept a model of every stage."""
    folder = RunFolder.create(tmp_path / "run", config)
    folder.close()
    for stage in STAGES:
        folder.model_dir(stage).mkdir()
    return folder


def test_other_settings_leave_the_models_of_a_run_as_they_are(
    config: DictConfig, trained: RunFolder
) -> None:
    settings = replace(parse(RunConfig, config), seed=7, run_dir="elsewhere", cache_dir="gone")
    kept = kept_models(trained, settings)
    assert {stage: model.path for stage, model in kept.items()} == {
        stage: str(trained.model_dir(stage)) for stage in STAGES
    }


def test_a_model_that_is_to_be_made_in_another_way_is_not_the_kept_one(
    config: DictConfig, trained: RunFolder
) -> None:
    settings = parse(RunConfig, config)
    other_generator = replace(settings.generator, reading=())
    assert set(kept_models(trained, replace(settings, generator=other_generator))) == {"warm_start"}
    assert set(kept_models(trained, replace(settings, warm_start=None))) == STAGES - {"warm_start"}


def test_a_run_that_kept_nothing_has_no_kept_models(config: DictConfig, trained: RunFolder) -> None:
    for stage in STAGES:
        trained.model_dir(stage).rmdir()
    assert kept_models(trained, parse(RunConfig, config)) == {}
