"""A policy of adapters, on weights of its own or on the generator's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rewards.stores.generator_key import weights_digest
from train import pipeline
from train.adapters import shares_weights
from train.config.validate import parse
from train.models import save_model
from train.progress import ProgressDisplay
from train.run import Run
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

Compose = Callable[..., DictConfig]

SMALL = (
    "data.demonstration_books=2",
    "data.train_books=2",
    "data.test_books=2",
    "warm_start=null",
    # What an untaught model says is a plan as a whole, so that there is something to learn from.
    "env.parser.whole_answer_without_marker=true",
    "env.parser.pattern=null",
    "reward.rules.truncated=score",
    "sft_baseline=null",
    "trainer.max_steps=2",
    "trainer.save_steps=2",
    "trainer.episodes_per_step=2",
    "trainer.per_device_batch_size=16",
    "trainer.max_completion_length=12",
    "sampling.max_new_tokens=12",
    "evaluation.max_episodes=4",
    "evaluation.bootstrap_samples=100",
    "logging.wandb=disabled",
    "logging.tensorboard=false",
)


@pytest.fixture
def base(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> ModelConfig:
    save_model(make_model(), tokenizer, tmp_path / "base")
    return ModelConfig(path=str(tmp_path / "base"))


def test_a_policy_shares_the_generators_weights_where_they_are_the_same_and_stay_so(
    compose_train: Compose, base: ModelConfig
) -> None:
    config = parse(RunConfig, compose_train("policy=lora"))
    assert shares_weights(config, base, base)
    assert not shares_weights(parse(RunConfig, compose_train("policy=full")), base, base)
    assert not shares_weights(config, base, replace(base, dtype="bfloat16"))
    for override in (
        "distributed=zero3",
        "scorer.sharding.method=fsdp",
        "generator.quantization=int8",
        "trainer.sampler=vllm_colocate",
    ):
        other = parse(RunConfig, compose_train("policy=lora", override))
        assert not shares_weights(other, base, base)


def test_a_run_with_shared_weights_trains_the_policy_and_leaves_the_generator(
    compose_train: Compose, tmp_path: Path
) -> None:
    composed = compose_train("policy=lora", *SMALL, f"cache_dir={tmp_path}/cache")
    run = Run.prepare(parse(RunConfig, composed), ProgressDisplay())
    before = weights_digest(run.writer[0])
    with RunFolder.create(tmp_path / "run", composed) as folder:
        evaluation = pipeline.train(run, folder)
    assert weights_digest(run.writer[0]) == before
    assert evaluation.row("empty_plan").improvement.mean == 0.0
    policy = AutoModelForCausalLM.from_pretrained(folder.policy_dir)
    assert weights_digest(policy) != before
