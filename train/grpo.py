"""GRPO through TRL's public hooks. The only module that knows TRL's row format.

A row of the data set is a prompt and an `episode_id`; TRL samples the answers, and the reward
function below joins them with their episodes again by that id.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
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

from envs.collaboration.collaboration import Collaboration
from envs.solo import SoloPlanner
from envs.tokens import end_id
from envs.types import Episode, Reply, Rollout
from rewards.types import Reward, Score
from train import zero
from train.dynamic_sampling import DynamicSampler
from train.episode_order import EpisodeOrder
from train.lessons import in_rows, rows_per_play
from train.play_sampler import PlaySampler
from train.ranks import num_processes
from train.reinforcement import ReinforcementSettings, trainer_arguments
from train.rollouts import Judge, OnScored, summary
from train.signal import levelled

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
Sampler = Literal["transformers", "continuous_batching", "vllm_colocate", "vllm_server"]


@dataclass(frozen=True)
class GrpoSettings(ReinforcementSettings):
    """Group-relative policy optimisation; `configs/trainer/` has whole settings."""

    algorithm: Literal["grpo"] = "grpo"
    num_generations: Annotated[int, Field(gt=1)] = 8
    """G: attempts per episode."""
    episodes_per_step: Annotated[int, Field(gt=0)] = 16
    """Episodes per optimizer step, over all processes; each is attempted G times."""
    num_iterations: Annotated[int, Field(gt=0)] = 1
    """Optimizer steps that learn from the same answers."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL penalty to the warm start (k3 estimator); 0 leaves it out."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Clip range of the probability ratio."""
    epsilon_high: Annotated[float, Field(gt=0)] | None = None
    """Clip range upwards, if it is to be another one ("clip-higher")."""
    loss_type: LossType = "dapo"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """`sequence` has one probability ratio per answer: GSPO, with `loss_type: grpo`."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """By whose standard deviation advantages are divided."""
    noise_floor: Annotated[float, Field(ge=0)] | None = None
    """A group whose improvements differ by no more than this, in points, teaches nothing; empty for
    the scorer's measured noise."""
    max_refills: Annotated[int, Field(ge=0)] = 0
    """Dynamic sampling: how often groups that teach nothing are sampled again; 0 leaves it out."""
    refill_with: Literal["episodes", "attempts"] = "episodes"
    """Again with other episodes, or with new attempts at the same ones."""
    sampler: Sampler = "transformers"
    """Who samples the answers; `docs/trainers.md` says what vLLM needs."""
    importance_sampling_correction: bool = True
    """Whether answers by vLLM are weighted by what its probabilities differ from the policy's."""
    episodes_at_once: Annotated[int, Field(gt=0)] | None = None
    """Episodes whose attempts one process samples together, which takes memory; empty for all that
    it has in a step."""
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of TRL's GRPOConfig, passed on as it is."""

    def __post_init__(self) -> None:
        known = {f.name for f in dataclasses.fields(GRPOConfig)}
        ours = _arguments(self, Path(), 0, 1, 1)
        for name in self.trl:
            if name not in known:
                raise ValueError(f"trainer.trl.{name} is not a field of TRL's GRPOConfig.")
            if name in ours:
                raise ValueError(
                    f"trainer.trl.{name} is set by a key of the trainer itself; docs/trainers.md "
                    "lists them."
                )
        if self.save_steps % self.num_iterations:
            raise ValueError(
                "trainer.save_steps: a checkpoint holds no rollouts, so it has to be a multiple of "
                f"trainer.num_iterations = {self.num_iterations}; got {self.save_steps}."
            )
        if (self.loss_type, self.importance_sampling_level) in _MISMATCHED:
            raise ValueError(
                f"trainer.loss_type: {self.loss_type} does not go with "
                f"trainer.importance_sampling_level={self.importance_sampling_level}; set the other"
            )

    @property
    def episodes_per_rollout(self) -> int:
        return self.episodes_per_step

    @property
    def steps_per_rollout(self) -> int:
        return self.num_iterations

    @property
    def steps_per_savepoint(self) -> int:
        # TRL keeps the answers that it learns from in memory alone.
        return self.num_iterations

    @property
    def uses_vllm(self) -> bool:
        return self.sampler.startswith("vllm")


# As the authors of these losses define them.
_MISMATCHED = {("luspo", "token"), ("vespo", "sequence")}


class Rows:
    """Makes the rows of the run's data set when they are asked for: positions in, rows out."""

    def __init__(self, order: EpisodeOrder, env: SoloPlanner | Collaboration) -> None:
        self.order = order
        self.env = env

    def __getstate__(self) -> int:
        # datasets names what it is given by its pickle, for which it would go through all books.
        return len(self.order)

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        rows = [_row(self.env, self.order[position]) for position in batch["position"]]
        return {column: [row[column] for row in rows] for column in ("prompt", "episode_id")}


class EpisodeReward:
    """The reward function that TRL calls with each process's answers, whole groups of them.

    `noise` is in points of improvement. Where a `sampler` has sampled the answers, it has scored
    them as well.
    """

    __name__ = "likelihood_improvement"

    def __init__(
        self,
        judge: Judge,
        end_ids: frozenset[int],
        group_size: int,
        noise: float = 0.0,
        on_scored: OnScored | None = None,
        sampler: DynamicSampler | PlaySampler | None = None,
    ) -> None:
        self.judge = judge
        self.end_ids = end_ids
        self.group_size = group_size
        self.noise = noise
        self.on_scored = on_scored
        self.sampler = sampler
        self.rows_per_play = rows_per_play(judge.env)

    def __call__(
        self,
        *,
        completions: Sequence[Sequence[Mapping[str, str]]],
        completion_ids: Sequence[Sequence[int]],
        episode_id: Sequence[str],
        log_metric: Callable[[str, float], None],
        judged: Sequence[tuple[Rollout, Score]] | None = None,
        turn_credit: Sequence[float | None] = (),
        **_: Any,
    ) -> list[float | None]:
        if judged is None:
            replies = [
                Reply(turns[0]["content"], truncated=not self._ended(ids))
                for turns, ids in zip(completions, completion_ids, strict=True)
            ]
            rollouts, scores = self.judge(episode_id, replies)
        else:
            plays = judged[:: self.rows_per_play]
            rollouts, scores = [r for r, _ in plays], [s for _, s in plays]
        if self.on_scored is not None:
            self.on_scored(rollouts, scores)
        rewards, share_without_signal = levelled(scores, self.group_size, self.noise)
        metrics = {
            **summary(rollouts, scores),
            "groups/without_signal": share_without_signal,
            **(self.sampler.metrics if self.sampler else {}),
        }
        for name, value in metrics.items():
            log_metric(name, value)
        if any(credit is not None for credit in turn_credit):
            return list(turn_credit)
        return [reward for reward in rewards for _ in range(self.rows_per_play)]

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self.end_ids


def train_grpo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner | Collaboration,
    reward: Reward,
    order: EpisodeOrder,
    settings: GrpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
    deepspeed: Mapping[str, Any] | None = None,
    noise: float = 0.0,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward` on the episodes in `order`; returns it, adapters
    included.

    `deepspeed` is DeepSpeed's own config, or None for plain data parallelism; either way the policy
    is whole in every process when it returns. `noise` is by how many points the scorer's
    improvements are off by rounding.
    """
    rows = Dataset.from_dict({"position": range(len(order))})
    rows.set_transform(Rows(order, env))
    judge, end_ids = Judge(order.episodes, env, reward), frozenset({end_id(tokenizer)})
    floor = noise if settings.noise_floor is None else settings.noise_floor
    sampler: DynamicSampler | PlaySampler | None = None
    if isinstance(env, Collaboration):
        sampler = PlaySampler(
            env,
            reward,
            judge.episodes,
            tokenizer,
            end_ids,
            group_size=settings.num_generations,
            batch_size=settings.per_device_batch_size,
            credit=settings.credit,
            seed=seed,
        )
    elif settings.max_refills:
        sampler = DynamicSampler(
            judge,
            tokenizer,
            end_ids,
            group_size=settings.num_generations,
            max_refills=settings.max_refills,
            refill_with=settings.refill_with,
            noise=floor,
            seed=seed,
        )
    with warnings.catch_warnings():
        # TRL keeps the right to change `rollout_func`; the lock file holds the release that we use.
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=EpisodeReward(
                judge, end_ids, settings.num_generations, floor, on_scored, sampler
            ),
            args=grpo_config(in_rows(settings, env), output_dir, seed, deepspeed),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=list(callbacks),
            peft_config=peft_config,
            # Its type wants texts, though of conversations TRL hands over the messages.
            rollout_func=cast(Any, sampler),
        )
    trainer.remove_callback(PrinterCallback)
    with zero.training(trainer):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return cast(PreTrainedModel, trainer.accelerator.unwrap_model(trainer.model))


def _row(env: SoloPlanner | Collaboration, episode: Episode) -> dict[str, Any]:
    """A row of TRL's data set. Of a row, `rollout_func` sees only the messages, so that they carry
    the id as well; chat templates read none but role and content."""
    id_ = {"episode_id": episode.episode_id}
    prompt = [{"role": m.role, "content": m.content, **id_} for m in env.ask(episode)]
    return {"prompt": prompt, **id_}


def micro_batches(settings: GrpoSettings, processes: int | None = None) -> int:
    """Micro-batches per optimizer step and process; every step samples its own answers.

    Raises:
        ValueError: the attempts of a step do not divide over processes and micro-batches.
    """
    processes = processes or num_processes()
    if settings.episodes_per_step % processes:
        raise ValueError(
            f"trainer.episodes_per_step: {settings.episodes_per_step} episodes do not divide over "
            f"{processes} processes, and a group stays whole; choose a multiple of {processes}"
        )
    attempts = settings.episodes_per_step * settings.num_generations
    steps, rest = divmod(attempts, settings.per_device_batch_size * processes)
    if rest or not steps:
        raise ValueError(
            f"trainer.per_device_batch_size: episodes_per_step x num_generations = {attempts} "
            f"attempts must be a multiple of per_device_batch_size x processes = "
            f"{settings.per_device_batch_size} x {processes}; choose a divisor of {attempts}"
        )
    return steps


def steps_per_generation(settings: GrpoSettings, processes: int | None = None) -> int:
    """Micro-batches whose answers are sampled together.

    Raises:
        ValueError: the attempts of a step do not divide over processes, generations, micro-batches.
    """
    steps = micro_batches(settings, processes)
    if settings.episodes_at_once is None:
        return steps
    attempts = settings.episodes_at_once * settings.num_generations
    at_once, rest = divmod(attempts, settings.per_device_batch_size)
    if rest or not at_once or steps % at_once or settings.num_iterations > 1:
        raise ValueError(
            f"trainer.episodes_at_once: {attempts} attempts sampled together must be a multiple of "
            f"per_device_batch_size = {settings.per_device_batch_size}, divide the "
            f"{steps * settings.per_device_batch_size} of a process and step, and be learned from "
            "once (num_iterations=1); choose another number, or leave it empty"
        )
    return at_once


def check_sampler(settings: GrpoSettings) -> None:
    """Refuses vLLM where it is not installed.

    Raises:
        ValueError: it is not.
    """
    if settings.uses_vllm and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            f"trainer.sampler: {settings.sampler} needs vLLM, which is not installed; install "
            "trl[vllm], or choose trainer.sampler=transformers or continuous_batching"
        )


def grpo_config(
    settings: GrpoSettings,
    output_dir: Path,
    seed: int,
    deepspeed: Mapping[str, Any] | None = None,
) -> GRPOConfig:
    """Settings in TRL's terms."""
    ours = _arguments(
        settings,
        output_dir,
        seed,
        micro_batches(settings),
        steps_per_generation(settings),
        deepspeed,
    )
    others = {
        # Every weight of a causal language model takes part in every pass; to look for some that do
        # not costs time.
        "ddp_find_unused_parameters": False,
        **settings.trl,
    }
    return GRPOConfig(**ours, **others)


def _arguments(
    settings: GrpoSettings,
    output_dir: Path,
    seed: int,
    accumulation: int,
    sampled_together: int,
    deepspeed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    server_or_colocated = settings.sampler.removeprefix("vllm_")
    return {
        **trainer_arguments(settings, output_dir, seed, accumulation, deepspeed),
        # The order of the rows is the order of the run.
        "shuffle_dataset": False,
        "num_generations": settings.num_generations,
        "steps_per_generation": sampled_together,
        "num_iterations": settings.num_iterations,
        "max_completion_length": settings.max_completion_length,
        "beta": settings.beta,
        "epsilon": settings.epsilon,
        "epsilon_high": settings.epsilon_high,
        "temperature": settings.temperature,
        "loss_type": settings.loss_type,
        "importance_sampling_level": settings.importance_sampling_level,
        "scale_rewards": settings.scale_rewards,
        "use_vllm": settings.uses_vllm,
        "vllm_mode": server_or_colocated if settings.uses_vllm else "colocate",
        "vllm_importance_sampling_correction": settings.importance_sampling_correction,
        "use_transformers_continuous_batching": settings.sampler == "continuous_batching",
    }
