"""Every file under configs/ composes, and what it composes to passes the schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from train.config.build import build
from train.config.validate import parse
from train.schema import RunConfig

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
GROUPS = ("data", "env", "experiment", "generator", "prompts", "reward", "trainer")
# What only a user can say.
SHELF = ["data.paths=[shelf]"]
SPLITS = ["data.train=a.jsonl", "data.validation=b.jsonl", "data.test=c.jsonl"]
GIVEN = {
    "data=bookshelf": SHELF,
    "data=published": SPLITS,
    "experiment=real_books": SHELF,
    "experiment=paper_3b": SPLITS,
    "experiment=paper_7b": SPLITS,
}


def choices() -> list[str]:
    files = [file for group in GROUPS for file in sorted((CONFIGS / group).glob("*.yaml"))]
    return [f"{file.parent.name}={file.stem}" for file in files]


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return parse(RunConfig, compose("train", ["run_dir=unused", *overrides]))


def test_no_config_file_is_outside_the_groups_that_are_tested() -> None:
    folders = {path.parent.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert folders == {".", "hydra", *GROUPS}


@pytest.mark.parametrize("choice", choices())
def test_every_choice_composes_and_passes_the_schema(choice: str) -> None:
    config = composed(choice, *GIVEN.get(choice, []))
    build(config.env, "env", prompts=config.prompts)
    build(config.reward.shaping, "reward.shaping")


def test_the_default_is_the_embedded_world() -> None:
    config = composed()
    assert config.data["_target_"] == "envs.sources.storyworld.StoryWorldSource"
    assert config.generator.model.path == "assets/storyworld"


def test_the_published_setting_is_in_the_paper_experiments() -> None:
    for size, group_size in (("3b", 16), ("7b", 8)):
        config = composed(f"experiment=paper_{size}", *SPLITS)
        trainer = config.trainer
        assert trainer.num_generations == group_size
        assert (trainer.learning_rate, trainer.beta, trainer.epsilon) == (5e-7, 1e-6, 0.2)
        assert (trainer.adam_beta1, trainer.adam_beta2) == (0.9, 0.95)
        assert trainer.max_completion_length == 2048
        assert config.reward.shaping["_target_"] == "rewards.shaping.Tiers"
