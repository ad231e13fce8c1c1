"""The reward as a run composes it: terms from config, and what they ask of trainer and books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.types import Episode
from rewards.distractors import Distractors
from rewards.groups import check_aligned
from rewards.weighted_sum import WeightedTerm, group_terms
from train import ranks
from train.config.build import build
from train.schema import RewardConfig

# What trainers call the number of episodes that a call of the reward is about, over all processes.
EPISODES = ("episodes_per_step", "episodes_per_rollout")


def build_terms(config: RewardConfig) -> tuple[WeightedTerm, ...]:
    """The terms of the reward.

    Raises:
        ValueError: a term cannot be built, or nothing is paid for anything.
    """
    terms = tuple(
        WeightedTerm(name, build(part.term, f"reward.terms.{name}.term"), part.weight)
        for name, part in config.terms.items()
    )
    if not any(weighted.weight for weighted in terms):
        raise ValueError(
            "reward.terms: no term with a weight other than 0, so every answer is worth the same; "
            "choose one with reward=raw, or give one a weight"
        )
    return terms


def check_groups(terms: Sequence[WeightedTerm], trainer: Any) -> None:
    """Refuses, before any work, a reward that compares groups where processes get parts of them.

    `trainer` is the settings of any trainer that attempts episodes `num_generations` times.

    Raises:
        ValueError: groups would be in parts, or turns are paid by what leaving one out costs, which
            says nothing where all attempts are compared.
    """
    if compared := group_terms(terms):
        if trainer.credit == "turn":
            raise ValueError(
                f"trainer.credit: turn leaves a turn out of one attempt, and reward.terms."
                f"{compared[0]} compares all of them; set trainer.credit=play"
            )
        key = next(name for name in EPISODES if hasattr(trainer, name))
        check_aligned(
            trainer.num_generations,
            getattr(trainer, key),
            ranks.num_processes(),
            compared,
            f"trainer.{key}",
        )


def distractors(terms: Sequence[WeightedTerm], pool: Sequence[Episode]) -> Distractors | None:
    """Other chapters for the terms that want them; None where none does.

    Raises:
        ValueError: the pool has too few.
    """
    count = max((weighted.num_distractors for weighted in terms), default=0)
    if not count:
        return None
    found = Distractors(pool)
    found.of(pool[0], count)
    return found
