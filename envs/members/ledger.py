"""What an endpoint has been asked, and what that cost."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from envs.types import Usage

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any one currency."""

    read: Annotated[float, Field(ge=0)] = 0.0
    generated: Annotated[float, Field(ge=0)] = 0.0

    def of(self, usage: Usage) -> float:
        """What so many tokens cost."""
        total = usage.read_tokens * self.read + usage.generated_tokens * self.generated
        return total / TOKENS_PER_PRICE


@dataclass
class Ledger:
    """Requests, tokens and money so far; several threads may write into it.

    `unmetered` answers came without a count of their tokens, and are missing from the sums.
    """

    prices: Prices = field(default_factory=Prices)
    requests: int = 0
    answers: int = 0
    unmetered: int = 0
    read_tokens: int = 0
    generated_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return self.prices.of(Usage(self.read_tokens, self.generated_tokens))

    def add_request(self) -> None:
        with self._lock:
            self.requests += 1

    def add_answer(self, usage: Usage | None) -> None:
        with self._lock:
            self.answers += 1
            if usage is None:
                self.unmetered += 1
            else:
                self.read_tokens += usage.read_tokens
                self.generated_tokens += usage.generated_tokens

    def add_failure(self, why: str) -> None:
        with self._lock:
            self.failures[why] += 1

    def note(self, has_failed: bool) -> int:
        """How many conversations in a row have no answer, with this one."""
        with self._lock:
            self.failed_in_a_row = self.failed_in_a_row + 1 if has_failed else 0
            return self.failed_in_a_row
