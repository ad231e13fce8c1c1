"""GRPO through TRL's public hooks. The only module that knows TRL's row format.

A row of the data set is a prompt and an `episode_id`; TRL samples the answers, and the reward
function below joins them with their episodes again by that id.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
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
from envs.types import Episode, PlanStatus, Reply, Rollout
from rewards.encode import CUTTABLE
from rewards.types import Reward, Score
from train.episode_order import EpisodeOrder
from train.rewarding import rewarded


@dataclass(frozen=True)
class GrpoSettings:
    """Group-relative policy optimisation; `configs/trainer/` has whole settings."""

    max_steps: Annotated[int, Field(gt=0)] = 100
    """Optimizer steps."""
    num_generations: Annotated[int, Field(gt=1)] = 8
    """G: attempts per episode."""
    episodes_per_step: Annotated[int, Field(gt=0)] = 16
    """Episodes per optimizer step, over all processes; each is attempted G times."""
    per_device_batch_size: Annotated[int, Field(gt=0)] = 128
    """Attempts per forward and backward pass of one process."""
    max_completion_length: Annotated[int, Field(gt=0)] = 96
    """Longest answer, in tokens."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    lr_scheduler_type: str = "constant_with_warmup"
    lr_scheduler_kwargs: Mapping[str, Any] = field(default_factory=dict)
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL penalty to the warm start (k3 estimator); 0 leaves it out."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Clip range of the probability ratio."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    loss_type: str = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    save_steps: Annotated[int, Field(gt=0)] = 50
    """Optimizer steps between checkpoints."""
    bf16: bool = False
    gradient_checkpointing: bool = False
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of TRL's GRPOConfig, passed on as it is."""

    def __post_init__(self) -> None:
        known = {f.name for f in dataclasses.fields(GRPOConfig)}
        for name in self.trl:
            if name not in known:
                raise ValueError(f"trainer.trl.{name} is not a field of TRL's GRPOConfig.")
        if self.steps_per_rollout < 1 or self.save_steps % self.steps_per_rollout:
            raise ValueError(
                "trainer.save_steps: a checkpoint holds no rollouts, so it has to be a multiple of "
                f"trainer.trl.num_iterations = {self.steps_per_rollout}; got {self.save_steps}."
            )

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that learn from the same answers."""
        return int(self.trl.get("num_iterations", 1))

    @property
    def num_rollouts(self) -> int:
        """How often answers are sampled in the whole run."""
        return math.ceil(self.max_steps / self.steps_per_rollout)


class Rows:
    """Makes the rows of the run's data set when they are asked for: positions in, rows out."""

    def __init__(self, order: EpisodeOrder, env: SoloPlanner) -> None:
        self.order = order
        self.env = env

    def __getstate__(self) -> int:
        # datasets names what it is given by its pickle, for which it would go through all books.
        return len(self.order)

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        episodes = [self.order[position] for position in batch["position"]]
        return {
            "prompt": [
                [{"role": m.role, "content": m.content} for m in self.env.ask(e)] for e in episodes
            ],
            "episode_id": [e.episode_id for e in episodes],
        }


class EpisodeReward:
    """The reward function that TRL calls with each process's answers."""

    __name__ = "likelihood_improvement"

    def __init__(
        self,
        episodes: Sequence[Episode],
        env: SoloPlanner,
        reward: Reward,
        end_ids: frozenset[int],
        on_scored: Callable[[Sequence[Rollout], Sequence[Score]], None] | None = None,
    ) -> None:
        self.episodes = {e.episode_id: e for e in episodes}
        self.env = env
        self.reward = reward
        self.end_ids = end_ids
        self.on_scored = on_scored

    def __call__(
        self,
        *,
        completions: Sequence[Sequence[Mapping[str, str]]],
        completion_ids: Sequence[Sequence[int]],
        episode_id: Sequence[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        rollouts = [
            self.env.conclude(self.episodes[id_], Reply(turns[0]["content"], not self._ended(ids)))
            for id_, turns, ids in zip(episode_id, completions, completion_ids, strict=True)
        ]
        scores = rewarded(self.reward, rollouts)
        for name, value in summary(rollouts, scores).items():
            log_metric(name, value)
        if self.on_scored is not None:
            self.on_scored(rollouts, scores)
        return [score.reward for score in scores]

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self.end_ids


def summary(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> dict[str, float]:
    """Mean improvement in per cent, the share of each plan status, and what was cut how often.

    Improvement and cuts are those of the rollouts that were scored, not judged by a rule.
    """
    counts = Counter(r.status for r in rollouts)
    shares = {f"plan/{status}": counts[status] / len(rollouts) for status in PlanStatus}
    gained = [s.improvement for s in scores if s.improvement is not None]
    if not gained:
        return shares
    cuts = Counter(part for score in scores for part in score.cut)
    cut_shares = {f"cut/{part}": cuts[part] / len(gained) for part in CUTTABLE}
    return {"improvement": sum(gained) / len(gained), **shares, **cut_shares}


def train_grpo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner,
    reward: Reward,
    order: EpisodeOrder,
    settings: GrpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: Callable[[Sequence[Rollout], Sequence[Score]], None] | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward`, playing episodes in `order`; returns it, adapters
    included.
    """
    rows = Dataset.from_dict({"position": range(len(order))})
    rows.set_transform(Rows(order, env))
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=EpisodeReward(
            order.episodes, env, reward, frozenset({end_id(tokenizer)}), on_scored
        ),
        args=grpo_config(settings, output_dir, seed),
        train_dataset=rows,
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
    processes = int(os.environ.get("WORLD_SIZE", "1"))
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
        output_dir=str(output_dir),
        max_steps=settings.max_steps,
        num_generations=settings.num_generations,
        per_device_train_batch_size=settings.per_device_batch_size,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation,
        max_completion_length=settings.max_completion_length,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        lr_scheduler_kwargs=dict(settings.lr_scheduler_kwargs),
        warmup_steps=settings.warmup_ratio,
        adam_beta1=settings.adam_beta1,
        adam_beta2=settings.adam_beta2,
        weight_decay=0.0,
        max_grad_norm=settings.max_grad_norm,
        beta=settings.beta,
        epsilon=settings.epsilon,
        temperature=settings.temperature,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        save_steps=settings.save_steps,
        # The order of the rows is the order of the run.
        shuffle_dataset=False,
        bf16=settings.bf16,
        activation_checkpointing=settings.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        **settings.trl,
    )
