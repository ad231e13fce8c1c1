"""Trains a policy by PPO: puts settings, models and trainer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from envs.collaboration.collaboration import Collaboration
from envs.solo import SoloPlanner
from rewards.types import Reward
from train import zero
from train.episode_order import EpisodeOrder
from train.lessons import in_rows
from train.ppo.actor_critic import ActorCritic
from train.ppo.play import Player
from train.ppo.settings import PpoSettings, divide
from train.ppo.trainer import PpoTrainer
from train.reinforcement import trainer_arguments
from train.rollouts import Judge, OnScored


def train_ppo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner | Collaboration,
    reward: Reward,
    order: EpisodeOrder,
    settings: PpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
    roles: Sequence[str] = (),
    deepspeed: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward` on the episodes in `order`; returns it, adapters
    included.

    Each of the `roles` gets adapters of its own. `deepspeed` is DeepSpeed's own config, or None for
    plain data parallelism. The returned policy is whole in every process.
    """
    # Adapters start at random.
    set_seed(seed)
    model = ActorCritic.build(
        policy, settings.critic, settings.temperature, settings.beta > 0, peft_config, roles
    )
    trainer = PpoTrainer(
        model,
        Player(Judge(order.episodes, env, reward), order, tokenizer, settings, seed, on_scored),
        ppo_arguments(in_rows(settings, env), output_dir, seed, deepspeed, bool(roles)),
        callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    if resume_from is not None:
        trainer.restore(resume_from)
    with zero.training(trainer):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return cast(PreTrainedModel, trainer.actor_critic.policy)


def ppo_arguments(
    settings: PpoSettings,
    output_dir: Path,
    seed: int,
    deepspeed: Mapping[str, Any] | None = None,
    by_role: bool = False,
) -> TrainingArguments:
    """Settings in the terms of transformers' Trainer."""
    accumulation = divide(settings).micro_batches_per_step
    ours = trainer_arguments(settings, output_dir, seed, accumulation, deepspeed)
    # While the critic warms up, the policy has no gradient, and a role that nobody of a micro-batch
    # speaks in never has.
    others = {
        "ddp_find_unused_parameters": by_role or settings.critic_warmup_steps > 0,
        **settings.arguments,
    }
    return TrainingArguments(**ours, **others)
