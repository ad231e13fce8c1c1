"""What an endpoint has been asked, and what that cost."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from envs.types import Usage

TOKENS_PER_PRICE = 1_000_000
# Why a conversation has no answer, as plays count it (`failed/…`).
FAILURES = ("unreachable", "slow", "busy", "rubbish", "cost")


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

    A request whose tokens the server did not count, though it may charge for them, is `unmetered`:
    it is booked at the most that it can have taken, under `estimated_…` and nowhere else.
    `rejected` answers came and could not be used.
    """

    prices: Prices = field(default_factory=Prices)
    requests: int = 0
    retries: int = 0
    answers: int = 0
    rejected: int = 0
    unmetered: int = 0
    read_tokens: int = 0
    generated_tokens: int = 0
    estimated_read_tokens: int = 0
    estimated_generated_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    _under_way: int = field(default=0, repr=False)
    _reserved: float = field(default=0.0, repr=False)
    _lock: threading.Condition = field(
        default_factory=threading.Condition, repr=False, compare=False
    )

    @property
    def money(self) -> float:
        """For the tokens that the server counted, in the currency of the prices."""
        return self.prices.of(Usage(self.read_tokens, self.generated_tokens))

    @property
    def estimated_money(self) -> float:
        """The most that the others can have cost."""
        return self.prices.of(Usage(self.estimated_read_tokens, self.estimated_generated_tokens))

    @property
    def cost(self) -> float:
        """All that may have been paid, which limits go by."""
        return self.money + self.estimated_money

    def numbers(self) -> dict[str, float]:
        """All sums by name; `failed/<why>` are conversations that have no answer."""
        with self._lock:
            return {
                "requests": self.requests,
                "retries": self.retries,
                "answers": self.answers,
                "rejected": self.rejected,
                "unmetered": self.unmetered,
                **{f"failed/{why}": self.failures[why] for why in FAILURES},
                "read_tokens": self.read_tokens,
                "generated_tokens": self.generated_tokens,
                "money": self.money,
                "estimated_read_tokens": self.estimated_read_tokens,
                "estimated_generated_tokens": self.estimated_generated_tokens,
                "estimated_money": self.estimated_money,
            }

    def admit(self, most: float, limit: float) -> bool:
        """Whether a request that may cost `most` fits under the limit; it is reserved if so.

        Waits while others are under way that may turn out to leave room. `release` has to follow.
        """

        def fits() -> bool:
            return self.cost + self._reserved + most <= limit

        with self._lock:
            self._lock.wait_for(lambda: fits() or not self._under_way)
            if not fits():
                return False
            self._under_way += 1
            self._reserved += most
            return True

    def release(self, most: float) -> None:
        """Gives back what was reserved for a request, whose tokens are booked by now."""
        with self._lock:
            self._under_way -= 1
            # Sums of floats leave crumbs.
            self._reserved = self._reserved - most if self._under_way else 0.0
            self._lock.notify_all()

    def book(self, metered: Usage | None, most: Usage) -> Usage:
        """Charges a request: what the server counted, or else the most that it can have taken."""
        with self._lock:
            if metered is not None:
                self.read_tokens += metered.read_tokens
                self.generated_tokens += metered.generated_tokens
                return metered
            self.unmetered += 1
            self.estimated_read_tokens += most.read_tokens
            self.estimated_generated_tokens += most.generated_tokens
            return most

    def add_request(self, is_retry: bool) -> None:
        with self._lock:
            self.requests += 1
            self.retries += is_retry

    def add_answer(self, is_usable: bool) -> None:
        with self._lock:
            self.answers += is_usable
            self.rejected += not is_usable

    def add_failure(self, why: str) -> None:
        with self._lock:
            self.failures[why] += 1

    def note(self, has_failed: bool) -> int:
        """How many conversations in a row have no answer, with this one."""
        with self._lock:
            self.failed_in_a_row = self.failed_in_a_row + 1 if has_failed else 0
            return self.failed_in_a_row
