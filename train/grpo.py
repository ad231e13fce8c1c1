"""GRPO through TRL's public hooks. The only module that knows TRL's row format.

A row of the data set is a prompt and an `episode_id`; TRL samples the answers, and the reward
function below joins them with their episodes again by that id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from datasets import Dataset
from pydantic import Field
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from envs.solo import SoloPlanner
from envs.tokens import end_id
from envs.types import Episode, Reply
from rewards.types import Reward
from train.reinforcement import ReinforcementSettings, num_processes, trainer_arguments
from train.rollouts import Judge, OnScored, summary


@dataclass(frozen=True)
class GrpoSettings(ReinforcementSettings):
    """Group-relative policy optimisation; `configs/trainer/` has whole settings."""

    algorithm: Literal["grpo"] = "grpo"
    num_generations: Annotated[int, Field(gt=1)] = 8
    """G: attempts per episode."""
    episodes_per_step: Annotated[int, Field(gt=0)] = 16
    """Episodes per optimizer step, over all processes; each is attempted G times."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL penalty to the warm start (k3 estimator); 0 leaves it out."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Clip range of the probability ratio."""
    loss_type: str = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of TRL's GRPOConfig, passed on as it is."""

    def __post_init__(self) -> None:
        known = {f.name for f in dataclasses.fields(GRPOConfig)}
        for name in self.trl:
            if name not in known:
                raise ValueError(f"trainer.trl.{name} is not a field of TRL's GRPOConfig.")


class EpisodeReward:
    """The reward function that TRL calls with each process's answers."""

    __name__ = "likelihood_improvement"

    def __init__(
        self,
        episodes: Sequence[Episode],
        env: SoloPlanner,
        reward: Reward,
        end_ids: frozenset[int],
        on_scored: OnScored | None = None,
    ) -> None:
        self.judge = Judge(episodes, env, reward, on_scored)
        self.end_ids = end_ids

    def __call__(
        self,
        *,
        completions: Sequence[Sequence[Mapping[str, str]]],
        completion_ids: Sequence[Sequence[int]],
        episode_id: Sequence[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        replies = [
            Reply(turns[0]["content"], truncated=not self._ended(ids))
            for turns, ids in zip(completions, completion_ids, strict=True)
        ]
        rollouts, scores = self.judge(episode_id, replies)
        for name, value in summary(rollouts, scores).items():
            log_metric(name, value)
        return [score.reward for score in scores]

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self.end_ids


def train_grpo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner,
    reward: Reward,
    episodes: Sequence[Episode],
    settings: GrpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward` on `episodes`; returns it, adapters included."""
    rows = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in env.ask(e)],
            "episode_id": e.episode_id,
        }
        for e in episodes
    ]
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=EpisodeReward(
            episodes, env, reward, frozenset({end_id(tokenizer)}), on_scored
        ),
        args=grpo_config(settings, output_dir, seed),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return cast(PreTrainedModel, trainer.accelerator.unwrap_model(trainer.model))


def steps_per_generation(settings: GrpoSettings) -> int:
    """Micro-batches per optimizer step and process; every step samples its own answers.

    Raises:
        ValueError: the attempts of a step do not divide over processes and micro-batches.
    """
    processes = num_processes()
    attempts = settings.episodes_per_step * settings.num_generations
    steps, rest = divmod(attempts, settings.per_device_batch_size * processes)
    if rest or not steps:
        raise ValueError(
            f"trainer.per_device_batch_size: episodes_per_step x num_generations = {attempts} "
            f"attempts must be a multiple of per_device_batch_size x processes = "
            f"{settings.per_device_batch_size} x {processes}; choose a divisor of {attempts}"
        )
    return steps


def grpo_config(settings: GrpoSettings, output_dir: Path, seed: int) -> GRPOConfig:
    """Settings in TRL's terms."""
    accumulation = steps_per_generation(settings)
    return GRPOConfig(
        **trainer_arguments(settings, output_dir, seed, accumulation),
        num_generations=settings.num_generations,
        steps_per_generation=accumulation,
        max_completion_length=settings.max_completion_length,
        beta=settings.beta,
        epsilon=settings.epsilon,
        temperature=settings.temperature,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        **settings.trl,
    )
