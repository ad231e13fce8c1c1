"""One key chooses the algorithm, and each has settings of its own."""

from __future__ import annotations

from typing import Any

import pytest

from train.config.validate import check
from train.ppo.settings import PpoSettings
from train.settings.grpo import GrpoSettings
from train.settings.trainer import TrainerSettings


def settings(**given: Any) -> Any:
    # A type checker takes the annotation of a union for no type.
    schema: Any = TrainerSettings
    return check(schema, given, "trainer")


def test_the_algorithm_chooses_the_settings_and_runs_of_old_were_grpo() -> None:
    assert settings(algorithm="ppo", critic="separate") == PpoSettings(critic="separate")
    assert settings(algorithm="grpo", beta=0.5) == GrpoSettings(beta=0.5)
    assert settings(beta=0.5) == GrpoSettings(beta=0.5)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"algorithm": "dqn"}, r"^trainer: `algorithm` should be grpo or ppo; got .*dqn"),
        (
            {"algorithm": "ppo", "loss_type": "dapo"},
            r"^trainer\.loss_type: no such key; known here: (?!.*scale_rewards).*gae_lambda",
        ),
        (
            {"algorithm": "grpo", "gae_lambda": 1.0},
            r"^trainer\.gae_lambda: no such key; known here: (?!.*gae_lambda).*loss_type",
        ),
        ({"algorithm": "ppo", "critik": "shared"}, r"^trainer\.critik: .*did you mean 'critic'\?"),
        ({"algorithm": "ppo", "gamma": 2.0}, r"^trainer\.gamma: should be less than or equal to 1"),
        (
            {"loss_type": "reinforce"},
            r"^trainer\.loss_type: should be 'grpo', 'bnpo', 'dr_grpo', 'dapo', 'cispo', 'sapo', "
            r"'luspo' or 'vespo'; got 'reinforce'",
        ),
        ({"sampler": "sglang"}, r"^trainer\.sampler: should be 'transformers', .*'vllm_server'"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_the_key(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        settings(**given)
