"""The settings of PPO, and how a rollout divides over processes and optimizer steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from train import ranks
from train.reinforcement import ReinforcementSettings, trainer_arguments

KlEstimator = Literal["k1", "k3"]


@dataclass(frozen=True)
class PpoSettings(ReinforcementSettings):
    """Proximal policy optimisation with a critic; `docs/trainers.md` has the formulae."""

    algorithm: Literal["ppo"] = "ppo"
    episodes_per_rollout: Annotated[int, Field(gt=0)] = 16
    """Episodes per rollout, over all processes; each is attempted `num_generations` times."""
    epochs_per_rollout: Annotated[int, Field(gt=0)] = 2
    """How often the answers of a rollout are learned from."""
    minibatches_per_epoch: Annotated[int, Field(gt=0)] = 2
    """Optimizer steps per epoch."""
    critic: Literal["separate", "shared"] = "shared"
    """`separate` is a model of its own that starts as a copy of the policy; `shared` is a head on
    the policy's last hidden states."""
    critic_warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps at the start in which only the critic learns; a shared one, only its head."""
    critic_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the critic's own weights; empty for the policy's."""
    value_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss beside the policy loss."""
    value_epsilon: Annotated[float, Field(gt=0)] = 0.2
    """How far a value may move in one rollout, in the units of the critic."""
    center_groups: bool = True
    """The mean score of an episode's attempts is taken off each of them, so that the critic need
    not know how much an episode pays whatever is answered; single attempts keep their score."""
    whiten_values: bool = True
    """The critic counts in running deviations of the score from its running mean, and so does the
    KL penalty; off, both count in units of the reward."""
    whiten_advantages: bool = True
    """Advantages of a rollout are centred and scaled to a deviation of 1."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount per token."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of generalised advantage estimation: 0 trusts the critic from the next token on, 1 never.
    The score comes with the last token; at 0.95 a token 60 before it sees a twentieth of it."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Clip range of the probability ratio."""
    epsilon_high: Annotated[float, Field(gt=0)] | None = None
    """Clip range upwards, if it is to be another one ("clip-higher")."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL penalty to the warm start in each token's reward; 0 leaves it out."""
    kl_estimator: KlEstimator = "k1"
    """Of the penalty: `k1` is the log-ratio, `k3` is never negative."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of transformers' TrainingArguments, passed on as it is."""

    def __post_init__(self) -> None:
        if not self.arguments:
            return
        # Seconds to load, and only these names are checked against it.
        from transformers import TrainingArguments

        known = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
        ours = trainer_arguments(self, Path(), 0, 1).keys()
        for name in self.arguments:
            if name not in known:
                raise ValueError(
                    f"trainer.arguments.{name} is not a field of transformers' TrainingArguments."
                )
            if name in ours:
                raise ValueError(
                    f"trainer.arguments.{name} is set by a key of the trainer itself; "
                    "docs/trainers.md lists them."
                )

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps."""
        return self.epochs_per_rollout * self.minibatches_per_epoch


@dataclass(frozen=True)
class Division:
    """What one process has of a rollout: whole groups, dealt into minibatches of micro-batches."""

    episodes: int
    attempts: int
    micro_batches_per_step: int


def divide(settings: PpoSettings, processes: int | None = None) -> Division:
    """How a rollout divides over processes, optimizer steps and micro-batches.

    Raises:
        ValueError: it does not.
    """
    processes = processes or ranks.num_processes()
    episodes, rest = divmod(settings.episodes_per_rollout, processes)
    if rest:
        raise ValueError(
            f"trainer.episodes_per_rollout: {settings.episodes_per_rollout} episodes do not divide "
            f"over {processes} processes, and a group stays whole; choose a multiple of {processes}"
        )
    attempts = episodes * settings.num_generations
    minibatch, rest = divmod(attempts, settings.minibatches_per_epoch)
    if rest:
        raise ValueError(
            f"trainer.minibatches_per_epoch: the {attempts} attempts of a process do not divide "
            f"into {settings.minibatches_per_epoch} minibatches; choose a divisor of {attempts}"
        )
    micro_batches, rest = divmod(minibatch, settings.per_device_batch_size)
    if rest or not micro_batches:
        raise ValueError(
            f"trainer.per_device_batch_size: a process has {minibatch} attempts per minibatch, "
            f"which must be a multiple of {settings.per_device_batch_size}; choose a divisor of "
            f"{minibatch}"
        )
    return Division(episodes, attempts, micro_batches)
