"""Every choice of the group `launch=`, and what its settings refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from launch.jobs.settings import SCHEMAS, LaunchSettings, parse_launch
from train.config.validate import plain

Launch = Callable[..., LaunchSettings]


@pytest.fixture
def launch(repository: Path) -> Launch:
    """The settings of `nextchapter launch train launch=NAME …`."""

    def parsed(*overrides: str) -> LaunchSettings:
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            config = compose("launch_train", ["run_dir=unused", *overrides])
        return parse_launch(plain(config)["launch"])

    return parsed


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_choice_of_the_group_has_the_defaults_of_its_settings(launch: Launch, name: str) -> None:
    assert launch(f"launch={name}") == SCHEMAS[name](backend=name, **_vetted(name))


def _vetted(name: str) -> dict[str, object]:
    """What a file says in place of the default that all kinds have in common."""
    return {"rendezvous_timeout_s": 60.0} if name == "local" else {}


def test_there_is_a_file_for_each_kind_of_job(repository: Path) -> None:
    files = {path.stem for path in (repository / "configs" / "launch").glob("*.yaml")}
    assert files == set(SCHEMAS)


def test_settings_of_another_kind_are_unknown(launch: Launch) -> None:
    with pytest.raises(ValueError, match=r"launch\.partition: no such key"):
        launch("launch=local", "+launch.partition=gpu")


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "HF_TOKEN", "DB_PASSWORD", "MY_PASSWD", "aws_secret_access_key"]
)
def test_a_secret_does_not_get_into_the_files_of_a_job(name: str) -> None:
    with pytest.raises(ValueError, match=f"launch.environment.{name}: a secret would stand"):
        parse_launch({"backend": "slurm", "environment": {name: "x"}})


def test_a_variable_has_a_name_that_a_shell_takes() -> None:
    with pytest.raises(ValueError, match="no name of an environment variable"):
        parse_launch({"backend": "slurm", "environment": {"A B": "1"}})
