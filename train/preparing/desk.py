"""Where questions are handed in: each is asked once, in batches, within a budget, and counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from envs.collaboration.table import OUT_OF_BUDGET
from envs.types import Cost, Reply
from train.cache import digest
from train.preparing.answers import AnswerStore
from train.preparing.settings import PrepareBudget
from train.progress import ProgressDisplay

Question = TypeVar("Question")


@dataclass
class Tally:
    """What a preparation cost and what went wrong in it, by kind of question.

    Answers that were kept from before count like new ones, so that a preparation which was killed
    ends with the same sums. `fresh_calls` alone tells what this process has asked.
    """

    budget: PrepareBudget = field(default_factory=PrepareBudget)
    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    failures: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    fresh_calls: int = 0

    @property
    def total(self) -> Cost:
        return sum(self.costs.values(), Cost())

    def room(self, wanted: int) -> int:
        """How many of these questions may still be asked."""
        spent, limits = self.total, self.budget
        tokens, calls = limits.max_generated_tokens, limits.max_calls
        if tokens is not None and spent.generated_tokens >= tokens:
            return 0
        return wanted if calls is None else max(0, min(wanted, calls - spent.calls))

    def note(self, kind: str, reply: Reply) -> None:
        """Counts an answer. What there is too much of is counted by whoever cuts it."""
        if reply.failure:
            self.failures[kind][reply.failure] += 1
        elif not reply.text.strip():
            self.failures[kind]["empty"] += 1
        if reply is not OUT_OF_BUDGET:
            # Neither the prices nor the size of who answered are kept with an answer; money is told
            # by `members.json`.
            usage = replace(reply.usage, money=0.0, giga_operations=0.0)
            self.costs[kind] += Cost.of(usage)


class Desk(Generic[Question]):
    """Asks one answerer. What it says depends on the questions alone, not on what was kept.

    A question that has no answer, or an empty one, is asked again by the next preparation.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], list[Reply]],
        store: AnswerStore,
        tally: Tally,
        batch_size: int,
        progress: ProgressDisplay,
    ) -> None:
        self.answer = answer
        self.store = store
        self.tally = tally
        self.batch_size = batch_size
        self.progress = progress
        self._replies: dict[str, Reply] = {}

    def ask(self, kind: str, questions: Sequence[Question]) -> list[Reply]:
        """An answer to each, in order."""
        keys = [digest(question) for question in questions]
        new = {k: q for k, q in zip(keys, questions, strict=True) if k not in self._replies}
        if new:
            with self.progress.stage(kind.replace("_", " "), len(new)) as advance:
                for batch in _batches(new, self.batch_size):
                    self._ask(kind, batch)
                    advance(len(batch))
        return [self._replies[key] for key in keys]

    def _ask(self, kind: str, batch: Mapping[str, Question]) -> None:
        allowed = list(batch)[: self.tally.room(len(batch))]
        found = {key: reply for key in allowed if (reply := self.store.get(key)) is not None}
        missing = [key for key in allowed if key not in found]
        if missing:
            said = self.answer([batch[key] for key in missing])
            if len(said) != len(missing):
                raise ValueError(
                    f"agent: gave {len(said)} answers to {len(missing)} questions ({kind}); it "
                    "has to give one to each, in order"
                )
            new = dict(zip(missing, said, strict=True))
            self.store.keep({k: r for k, r in new.items() if r.text.strip() and not r.failure})
            self.tally.fresh_calls += len(missing)
            found |= new
        for key in batch:
            self._replies[key] = found.get(key, OUT_OF_BUDGET)
            self.tally.note(kind, self._replies[key])


def _batches(items: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    pairs = list(items.items())
    return [dict(pairs[start : start + size]) for start in range(0, len(pairs), size)]
