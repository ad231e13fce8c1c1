"""PPO on the story world in small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import LikelihoodScorer, Reward
from rewards.weighted_sum import WeightedTerm
from train.algorithms import order_of
from train.ppo.run import train_ppo
from train.ppo.settings import PpoSettings

RAW = [WeightedTerm("raw", Raw())]
# Two rollouts of two epochs of two steps, each step of two micro-batches.
TINY = PpoSettings(
    max_steps=8,
    num_generations=4,
    episodes_per_rollout=2,
    epochs_per_rollout=2,
    minibatches_per_epoch=2,
    per_device_batch_size=2,
    max_completion_length=8,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    beta=0.1,
    save_steps=100,
)

Train = Callable[..., PreTrainedModel]


@pytest.fixture
def train(
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
) -> Train:
    """Trains a policy by what a scorer says, or by another reward; settings can be changed."""

    def train(
        policy: PreTrainedModel,
        scorer: LikelihoodScorer | None = None,
        hooks: Any = None,
        reward: Reward | None = None,
        **settings: Any,
    ) -> PreTrainedModel:
        if reward is None:
            assert scorer is not None
            reward = LikelihoodImprovement(scorer, encoder, RAW, StatusRules())
        changed = replace(TINY, **settings)
        return train_ppo(
            policy,
            tokenizer,
            # Whatever a random model says is a plan, so that attempts differ in worth.
            SoloPlanner(parser=PlanParser(whole_answer_without_marker=True)),
            reward,
            order_of(world.episodes("train"), changed, seed=0),
            changed,
            output_dir=tmp_path,
            seed=0,
            **(hooks or {}),
        )

    return train
