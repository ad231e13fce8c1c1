"""The settings of GRPO, and how a step's attempts divide over processes and micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from train.ranks import num_processes
from train.reinforcement import ReinforcementSettings

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
        if self.trl:
            # Seconds to load, and only these names are checked against it.
            from train.grpo import check_passed_on

            check_passed_on(self)
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
