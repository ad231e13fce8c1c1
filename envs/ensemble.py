"""Envs in which frozen writers, not plans, change what is said of the chapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Ensemble:
    """What all such envs are: settings of how writers work together, fitted before it is played.

    `writers` are names of `writers.…` in the config, `generator` among them if it takes part; empty
    for all of them. `leave_one_out` also evaluates what is left without each of them.
    """

    learner: ClassVar[str]
    """Import path of the module whose `fit`, `untrained` and `load` make what decides."""

    is_smallest_first: ClassVar[bool] = False
    """Whether the order of writers is by size where nobody named one."""

    writers: tuple[str, ...] = ()
    leave_one_out: bool = False

    @property
    def asks_policy(self) -> bool:
        """Whether the policy takes part, beside the writers."""
        return False
