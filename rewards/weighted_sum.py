"""A reward as the weighted sum of named terms, computed group by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewards.types import Measured, Term


@dataclass(frozen=True)
class WeightedTerm:
    """A term, the name under which its values are logged, and what a unit of it is worth.

    A weight of 0 logs the term and pays nothing for it.
    """

    name: str
    term: Term
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(
                f"reward.terms.{self.name}.weight must be a finite number; got {self.weight}."
            )

    @property
    def needs_group(self) -> bool:
        return bool(getattr(self.term, "needs_group", False))

    @property
    def is_exact(self) -> bool:
        return bool(getattr(self.term, "is_exact", False))

    @property
    def num_distractors(self) -> int:
        return int(getattr(self.term, "num_distractors", 0))

    def values(self, group: Sequence[Measured]) -> list[float]:
        """One finite value per rollout of the group.

        Raises:
            ValueError: the term raised, or gave something else; the message names the episode.
        """
        episode_id = group[0].rollout.episode.episode_id
        try:
            values = [float(value) for value in self.term(group)]
        except Exception as error:
            # A term may be anybody's code; whatever goes wrong in it, its user has to know where.
            raise ValueError(
                f"episode {episode_id}: reward.terms.{self.name} failed "
                f"({type(error).__name__}: {error}); mend the term, or take it out"
            ) from error
        if len(values) != len(group):
            raise ValueError(
                f"episode {episode_id}: reward.terms.{self.name} gave {len(values)} values for "
                f"{len(group)} attempts; a term gives one for each"
            )
        for value in values:
            if not math.isfinite(value):
                raise ValueError(
                    f"episode {episode_id}: reward.terms.{self.name} gave {value}; a reward is a "
                    "finite number. Mend the term, or take it out"
                )
        return values


def term_values(terms: Sequence[WeightedTerm], group: Sequence[Measured]) -> list[dict[str, float]]:
    """For each rollout of the group, the value of every term by name, before weighting."""
    by_term = {weighted.name: weighted.values(group) for weighted in terms}
    return [{name: values[i] for name, values in by_term.items()} for i in range(len(group))]


def weighted_sum(terms: Sequence[WeightedTerm], values: Mapping[str, float]) -> float:
    return sum(weighted.weight * values[weighted.name] for weighted in terms)


def group_terms(terms: Sequence[WeightedTerm]) -> list[str]:
    """The names of the terms that compare the attempts of a group."""
    return [weighted.name for weighted in terms if weighted.needs_group]


def first_threshold(terms: Sequence[WeightedTerm]) -> float | None:
    """The improvement, in per cent, from which a stepped term pays; None where none has steps.

    A term has steps if it has `thresholds`; one that is paid nothing does not count.
    """
    steps = [step for w in terms if w.weight for step in getattr(w.term, "thresholds", ())]
    return min(steps, default=None)
