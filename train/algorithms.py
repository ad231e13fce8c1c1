"""GRPO or PPO: the one place where a run's algorithm is told from the other."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.collaboration.collaboration import Collaboration
from envs.solo import SoloPlanner
from envs.types import Episode
from rewards.types import Reward
from train import (
    adapters,
    credit,
    curriculum,
    dynamic_sampling,
    episode_order,
    grpo,
    lessons,
    nonfinite,
    play_sampler,
    ppo,
    reinforcement,
    role_adapters,
    role_marks,
    rollouts,
    signal,
    zero,
)
from train.curriculum import Curriculum
from train.episode_order import EpisodeOrder, as_trl_shuffles
from train.grpo import train_grpo
from train.lessons import in_rows
from train.ppo.play import shuffled
from train.ppo.run import train_ppo
from train.ppo.settings import PpoSettings, divide
from train.ranks import num_processes
from train.rollouts import OnScored
from train.samplers import check_vllm
from train.settings import grpo as grpo_settings
from train.settings.grpo import GrpoSettings, steps_per_generation

# What a trained policy depends on, whichever algorithm trained it.
CODE = (
    *(grpo, grpo_settings, ppo, reinforcement, rollouts, dynamic_sampling, signal),
    *(episode_order, curriculum, nonfinite, zero, lessons, credit, play_sampler, adapters),
    *(role_adapters, role_marks),
)


def check_trainer(
    settings: GrpoSettings | PpoSettings, env: SoloPlanner | Collaboration, zero_stage: int = 0
) -> None:
    """Refuses, before any work is done, what this machine and these processes cannot do.

    Raises:
        ValueError: attempts do not divide over processes and batches, a sampler is missing, or a
            setting is not for the env.
    """
    if isinstance(env, Collaboration):
        if zero_stage == 3:
            raise ValueError(
                "distributed.zero_stage: in ZeRO-3 all processes answer equally often, but plays "
                "of a collaboration differ in their turns; take distributed=zero2 or none"
            )
        if isinstance(settings, GrpoSettings) and settings.uses_vllm and num_processes() > 1:
            raise ValueError(
                "trainer.sampler: with vLLM all processes answer equally often, but plays of a "
                "collaboration differ in their turns; take trainer.sampler=transformers"
            )
        if getattr(settings, "max_refills", 0):
            raise ValueError(
                "trainer.max_refills: groups are sampled again with env=solo only; set it to 0"
            )
    elif settings.credit == "turn":
        raise ValueError(
            "trainer.credit: turn is for envs with several turns; set trainer.credit=play"
        )
    settings = in_rows(settings, env)
    if isinstance(settings, PpoSettings):
        divide(settings)
    else:
        steps_per_generation(settings)
        check_vllm(
            settings,
            importlib.util.find_spec("vllm") is not None,
            torch.cuda.is_available(),
            num_processes(),
        )


def order_of(
    episodes: Sequence[Episode],
    settings: GrpoSettings | PpoSettings,
    seed: int,
    curriculum: Curriculum | None = None,
) -> EpisodeOrder:
    """Which episode the run plays when."""
    return EpisodeOrder(
        episodes,
        settings.episodes_per_rollout,
        settings.num_rollouts,
        seed,
        curriculum,
        shuffled if isinstance(settings, PpoSettings) else as_trl_shuffles,
    )


def train_policy(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner | Collaboration,
    reward: Reward,
    order: EpisodeOrder,
    settings: GrpoSettings | PpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
    roles: Sequence[str] = (),
    deepspeed: Mapping[str, Any] | None = None,
    noise: float = 0.0,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward` on the episodes in `order`; returns it, adapters
    included.

    Each of the `roles` gets adapters of its own. `noise` is by how many points the scorer's
    improvements are off by rounding; `deepspeed` is DeepSpeed's own config, or None for plain data
    parallelism.
    """
    how: dict[str, Any] = {
        "output_dir": output_dir,
        "seed": seed,
        "callbacks": callbacks,
        "on_scored": on_scored,
        "resume_from": resume_from,
        "peft_config": peft_config,
        "roles": roles,
        "deepspeed": deepspeed,
    }
    if isinstance(settings, PpoSettings):
        return train_ppo(policy, tokenizer, env, reward, order, settings, **how)
    return train_grpo(policy, tokenizer, env, reward, order, settings, **how, noise=noise)
