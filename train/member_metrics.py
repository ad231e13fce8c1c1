"""What members that keep a ledger were asked and paid in each step, for the logs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from envs.members.ledger import Ledger
from train.member_ledgers import over_all_processes


class MemberMetrics(TrainerCallback):
    """Reads the ledgers of all processes after each step."""

    def __init__(self, ledgers: Mapping[str, Ledger]) -> None:
        self.ledgers = ledgers
        self._now: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.ledgers:
            self._now = {
                f"member/{name}/{what}": value
                for name, numbers in over_all_processes(self.ledgers).items()
                for what, value in numbers.items()
            }

    def since_last(self) -> dict[str, float]:
        """All sums by name, each of what has come since this was asked before."""
        new = {name: value - self._told.get(name, 0) for name, value in self._now.items()}
        self._told = self._now
        return new
