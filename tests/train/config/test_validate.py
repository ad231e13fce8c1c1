"""Configs become typed objects, or one line that names the key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from omegaconf import OmegaConf
from pydantic import Field

from train.config.validate import parse


@dataclass(frozen=True)
class Optimizer:
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Tiers:
    thresholds: tuple[float, ...] = (0.05, 1.0, 2.0)

    def __post_init__(self) -> None:
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(
                f"reward.thresholds: should rise; got {self.thresholds}. Put them in order"
            )


@dataclass(frozen=True)
class Run:
    name: str
    seed: int = 0
    optimizer: Optimizer = field(default_factory=Optimizer)
    reward: Tiers = field(default_factory=Tiers)
    device: Literal["cpu", "cuda"] = "cpu"
    output: Path | None = None
    stages: tuple[Optimizer, ...] = ()
    second: Optimizer | Tiers | None = None


def test_a_config_becomes_a_dataclass_with_its_interpolations_resolved() -> None:
    config = OmegaConf.create(
        {"name": "${seed}", "seed": 7, "optimizer": {"betas": [0.8, 0.9]}, "output": "a/b"}
    )
    assert parse(Run, config) == Run(
        name="7", seed=7, optimizer=Optimizer(betas=(0.8, 0.9)), output=Path("a/b")
    )


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"name": "a", "sead": 1},
            "sead: no such key; did you mean 'seed'? known here: device, name, optimizer, output, "
            "reward, second, seed, stages",
        ),
        (
            {"name": "a", "optimizer": {"learning_rat": 1}},
            "optimizer.learning_rat: no such key; did you mean 'learning_rate'? "
            "known here: betas, learning_rate",
        ),
        (
            {"name": "a", "optimizer": {"learning_rate": -1}},
            "optimizer.learning_rate: should be greater than 0; got -1. "
            "Set it with optimizer.learning_rate=VALUE",
        ),
        ({"seed": 1}, "name: required, and not given; set it with name=VALUE"),
        ({"name": "???"}, "name: required, and not given; set it with name=VALUE"),
        (
            {"name": "a", "device": "tpu"},
            "device: should be 'cpu' or 'cuda'; got 'tpu'. Set it with device=VALUE",
        ),
        (
            {"name": "a", "reward": {"thresholds": [2, 1]}},
            "reward.thresholds: should rise; got (2.0, 1.0). Put them in order",
        ),
        (
            {"name": "a", "stages": [{}, {"learning_rate": 0}]},
            "stages.1.learning_rate: should be greater than 0; got 0. "
            "Set it with stages.1.learning_rate=VALUE",
        ),
        ({"name": "a", "seed": "x", "device": 3}, "seed: should be a valid integer"),
        ({"name": "${nobody}"}, "name: Interpolation key 'nobody' not found"),
    ],
)
def test_a_wrong_config_is_one_line_with_key_rule_value_and_remedy(
    config: dict[str, object], line: str
) -> None:
    with pytest.raises(ValueError) as caught:
        parse(Run, OmegaConf.create(config))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_the_first_of_several_errors_is_shown_and_the_rest_are_counted() -> None:
    with pytest.raises(ValueError, match=r"^seed: .* \(1 more after this one\)$"):
        parse(Run, {"name": "a", "seed": "x", "device": "tpu"})


def test_the_names_of_union_members_are_left_out_of_the_key() -> None:
    with pytest.raises(ValueError, match=r"^second\.learning_rate: should be greater than 0"):
        parse(Run, {"name": "a", "second": {"learning_rate": 0}})


def test_a_part_of_a_config_is_named_from_its_root() -> None:
    with pytest.raises(ValueError, match=r"^trainer\.optimizer\.learning_rate: "):
        parse(Optimizer, {"learning_rate": 0}, "trainer.optimizer")
