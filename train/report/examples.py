"""Chapters to read, with what the plan did to each of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.analysis.exports import label
from train.report.runs import ReportedRun

FULL_GAIN_NATS = 2.0
FULL_COST_NATS = 6.0
SEEN_FROM_NATS = 0.1
"""Smaller gains are not coloured."""


@dataclass(frozen=True)
class Token:
    """One gold token. Shades are in [0, 1]: of its gain, of its cost without the plan and with."""

    text: str
    direction: str
    gain_shade: float
    cost_shade_without: float
    cost_shade_with: float
    hint: str


@dataclass(frozen=True)
class Example:
    """One attempt: what the agent knew, what it said and planned, the author's chapter, and those
    that the generator wrote with the plan and without, where it did."""

    run: str
    episode_id: str
    improvement: float
    rank: str
    context: Sequence[Mapping[str, str]]
    answer: str
    plan: str
    tokens: tuple[Token, ...]
    written: str | None
    written_without_plan: str | None


def examples(run: ReportedRun, number: int) -> Iterator[Example]:
    """The best, the worst and some between of the row that the answer is about."""
    attempts = sorted(run.gains_of(label(run.best_row)), key=lambda a: -a["improvement"])
    last = len(attempts) - 1
    if last < 0 or number < 1:
        return
    for place in sorted({round(i * last / max(1, number - 1)) for i in range(number)}):
        attempt = attempts[place]
        yield Example(
            f"{run.name}, seed {run.seed}",
            attempt["episode_id"],
            attempt["improvement"],
            f"rank {place + 1} of {len(attempts)}",
            attempt["context"],
            attempt["answer"] or "",
            attempt["plan"],
            tuple(_tokens(attempt)),
            attempt.get("written"),
            attempt.get("written_without_plan"),
        )


def _tokens(attempt: Mapping[str, Any]) -> Iterator[Token]:
    for text, before, gain in zip(
        attempt["tokens"], attempt["nats_without"], attempt["gain"], strict=True
    ):
        direction = "" if abs(gain) < SEEN_FROM_NATS else "up" if gain > 0 else "down"
        yield Token(
            text,
            direction,
            round(min(1.0, abs(gain) / FULL_GAIN_NATS), 2),
            round(min(1.0, before / FULL_COST_NATS), 2),
            round(min(1.0, (before - gain) / FULL_COST_NATS), 2),
            f"{before:.2f} nats without, {before - gain:.2f} with: {gain:+.2f}",
        )
