"""How a training is spread, in DeepSpeed's terms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from train.config.validate import parse
from train.distribution import DistributedSettings
from train.progress import ProgressDisplay
from train.run import Run
from train.schema import RunConfig


def test_plain_data_parallelism_does_without_deepspeed() -> None:
    assert DistributedSettings().as_deepspeed() is None
    with pytest.raises(ValueError, match=r"distributed.zero_stage: 0 is plain data parallelism"):
        DistributedSettings(offload_optimizer=True)


def test_a_users_keys_have_the_last_word_at_any_depth() -> None:
    settings = DistributedSettings(
        zero_stage=3,
        deepspeed={"zero_optimization": {"sub_group_size": 7}, "gradient_clipping": 0.5},
    )
    made = settings.as_deepspeed()
    assert made is not None
    assert made["zero_optimization"]["stage"] == 3
    assert made["zero_optimization"]["sub_group_size"] == 7
    assert made["gradient_clipping"] == 0.5
    assert made["data_types"] == {"grad_accum_dtype": "fp32"}


def test_muon_under_zero_is_refused_before_any_work(
    compose_train: Callable[..., DictConfig],
) -> None:
    composed = compose_train(
        "distributed=zero2", "+warm_start.optimizer=muon", "data.train_books=2"
    )
    with pytest.raises(ValueError, match=r"warm_start.optimizer: muon wants whole matrices"):
        Run.prepare(parse(RunConfig, composed), ProgressDisplay())
