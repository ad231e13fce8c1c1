"""The table of an evaluation: rows of attempts, what they amount to, and their form as JSON."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from envs.types import Cost, Episode, PlanStatus, giga_operations
from rewards.improvement import improvement_percent
from rewards.types import Likelihood, ScoreRequest
from train.analysis.breakdown import Part, breakdown
from train.analysis.paired import Comparison, Measurements, compare
from train.analysis.texts import text_metrics
from train.statistics import Interval, spread

UNTRAINED, TRAINED = "untrained", "trained"
"""The names of a run's agents in its tables."""

ORACLE = "oracle"
SELF_CONSISTENCY = "self_consistency"
"""The row of an agent that worked alone, at the cost of a collaboration."""
ROUNDING = 1e-3
"""Points of improvement; the same chapter scored in another batch differs by less."""
WRITER_ROW, ALONE_ROW, WITHOUT_ROW = "writer_", "alone_", "without_"
"""What rows are called of one writer alone, of what one role of a collaboration planned alone, and
of a whole without one of them."""
EMPTY_PLAN = "empty_plan"

NOT_COMPARED = ("inferable_plan", "true_plan", ORACLE)
"""Rows that are no rivals: what they are worth is known beforehand, or chosen afterwards. Of the
writers of an ensemble the one that is best on the validation books stands for all, and whether a
whole is better than each of its members is told by `Evaluation.ahead`."""


@dataclass(frozen=True)
class Attempt:
    """One episode under one row: the plan that was used and what it did.

    `answer` is what an agent said, and `status` how its plan was read from that. `play` has what
    the agent and its partners did for it, and what went wrong, by name. `chapter` is what the
    generator wrote with the plan, where it was asked to. `members` has, of a collaboration, what
    each role planned alone and what the play comes to without it, by the name of the row.
    """

    episode: Episode
    plan: str
    improvement: float
    with_plan: Likelihood
    baseline: Likelihood
    answer: str | None = None
    status: PlanStatus | None = None
    play: Mapping[str, float] = field(default_factory=dict)
    chapter: str | None = None
    members: Mapping[str, tuple[str, PlanStatus]] = field(default_factory=dict)

    @property
    def token_gains(self) -> list[float]:
        """By how many nats the plan made each gold token more likely."""
        pairs = zip(self.baseline.token_nll, self.with_plan.token_nll, strict=True)
        return [before - after for before, after in pairs]

    def as_json(self) -> dict[str, Any]:
        """All but the episode, which its id stands for, and the chapter."""
        return {
            **({"members": dict(self.members)} if self.members else {}),
            "episode_id": self.episode.episode_id,
            "plan": self.plan,
            "answer": self.answer,
            "status": self.status,
            "play": dict(self.play),
            "with_plan": {"nll": self.with_plan.nll, "token_nll": self.with_plan.token_nll},
            "baseline": {"nll": self.baseline.nll, "token_nll": self.baseline.token_nll},
        }

    @classmethod
    def from_json(cls, episode: Episode, kept: Mapping[str, Any]) -> Attempt:
        assert kept["episode_id"] == episode.episode_id
        with_plan, baseline = (
            Likelihood(kept[name]["nll"], tuple(kept[name]["token_nll"]))
            for name in ("with_plan", "baseline")
        )
        return cls(
            episode,
            kept["plan"],
            improvement_percent(with_plan, baseline),
            with_plan,
            baseline,
            kept["answer"],
            kept["status"] and PlanStatus(kept["status"]),
            kept["play"],
            members={n: (p, PlanStatus(s)) for n, (p, s) in kept.get("members", {}).items()},
        )


@dataclass(frozen=True)
class Row:
    """One line of the table. `statuses` counts how the answers of an agent were read.

    `play` has means per episode of what the agent and its partners did, and of what went wrong.
    `second` is the improvement of the same plans under a second generator, where there is one.
    `parts` and `texts` are filled in when the table is complete; `chapters` are the same measures
    of `texts`, of what the generator wrote with the plans.
    """

    name: str
    decoding: str | None
    improvement: Interval
    attempts: tuple[Attempt, ...]
    statuses: Mapping[str, int] | None = None
    play: Mapping[str, float] | None = None
    parts: tuple[Part, ...] = ()
    texts: Mapping[str, float] = field(default_factory=dict)
    second: Interval | None = None
    chapters: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The row in one string: `trained greedy`, `empty_plan`."""
        return " ".join(filter(None, (self.name, self.decoding)))

    @property
    def way(self) -> str | None:
        """How a learner of this row decides, which it is compared with its like by; None for a
        control. Ensembles have one way.
        """
        is_ensemble = self.decoding is None and self.name in (UNTRAINED, TRAINED)
        return "" if is_ensemble else self.decoding

    @property
    def improvements(self) -> list[float]:
        return [attempt.improvement for attempt in self.attempts]

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": self.name,
            "improvement": {**self.improvement.as_json(), "spread": spread(self.improvements)},
            "episodes": len(self.attempts),
            "books": len({a.episode.book_id for a in self.attempts}),
        }
        if self.decoding is not None:
            row["decoding"] = self.decoding
        if self.statuses is not None:
            row["plan_status"] = dict(self.statuses)
        if self.play is not None:
            row["play"] = dict(self.play)
        if self.parts:
            row["parts"] = [part.as_json() for part in self.parts]
        if self.texts:
            row["texts"] = dict(self.texts)
        if self.second is not None:
            row["second_generator"] = self.second.as_json()
        if self.chapters:
            row["chapters"] = dict(self.chapters)
        return row


@dataclass(frozen=True)
class Evaluation:
    """The table, what each part of a plan is worth to the generator, and how rows compare.

    `ahead` has, for rows of several who work together, the share of episodes on which they are
    better than every member alone. `num_cut` counts the episodes whose context or chapter (`gold`)
    the generator saw in part.
    `checks` are rows that are no plan's: they tell what the generator knows by itself, and `recall`
    which share of a chapter it writes on by heart.
    """

    rows: tuple[Row, ...]
    ablations: tuple[Row, ...]
    num_cut: Mapping[str, int] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[Row, ...] = ()
    recall: Interval | None = None
    ahead: Mapping[str, Interval] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "ablations": [row.as_json() for row in self.ablations],
            "checks": [row.as_json() for row in self.checks],
            "recall": self.recall and self.recall.as_json(),
            **({"ahead": {n: i.as_json() for n, i in self.ahead.items()}} if self.ahead else {}),
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "episodes_cut": dict(self.num_cut),
        }

    def row(self, name: str, decoding: str | None = None) -> Row:
        return next(r for r in self.rows if (r.name, r.decoding) == (name, decoding))

    def analysed(self, genres: Mapping[str, Sequence[str]], num_samples: int) -> Evaluation:
        """With its parts, its texts and its comparisons."""
        episodes = [attempt.episode for attempt in self.rows[0].attempts]
        rows = tuple(
            replace(
                row,
                parts=breakdown(episodes, row.improvements, genres, num_samples),
                texts=text_metrics(episodes, [attempt.plan for attempt in row.attempts]),
            )
            for row in self.rows
        )
        measured = [
            Measurements(row.label, row.way, tuple(row.improvements))
            for row in rows
            if row.name not in NOT_COMPARED and not row.name.startswith((WRITER_ROW, ALONE_ROW))
        ]
        books = [episode.book_id for episode in episodes]
        return replace(self, rows=rows, comparisons=compare(measured, books, num_samples))


def answer_row(rows: Sequence[Row]) -> Row | None:
    """The row that a report is about: the last agent that was trained, greedy where it was."""
    agents = [row for row in rows if row.decoding is not None]
    agents = [row for row in agents if row.name != UNTRAINED] or agents
    last = [row for row in agents if row.name == agents[-1].name]
    return next((row for row in last if row.decoding == "greedy"), last[0] if last else None)


def members_of(rows: Collection[str]) -> list[str]:
    """Which of the rows a whole has to be better than to be ahead of every member.

    Each writer alone; of a collaboration, what each role planned alone, and the generator without a
    plan, which is what a role that planned nothing is worth.
    """
    writers = [name for name in rows if name.startswith(WRITER_ROW)]
    roles = [name for name in rows if name.startswith(ALONE_ROW)]
    return [*writers, *roles, *([EMPTY_PLAN] if roles else [])]


def is_ahead(whole: float, alone: Iterable[float]) -> bool:
    """Whether an improvement is better than each of the others, by more than rounding."""
    return whole > max(alone) + ROUNDING


def writing_cost(request: ScoreRequest, num_weights: int | None) -> Cost:
    """What it takes a writer of that many weights to write a chapter of the length of the author's
    as it is scored; None where they are not known.
    """
    read, written = len(request.prefix_ids) + len(request.guidance_ids), len(request.gold_ids)
    operations = giga_operations(num_weights or 0, read + written)
    return Cost(1, read, written, giga_operations=operations)


def costs_in_play(costs: Mapping[str, Cost]) -> dict[str, float]:
    """Costs of each member as a row's `play` has them."""
    return {
        f"cost/{member}/{name}": float(value)
        for member, cost in costs.items()
        for name, value in cost.named().items()
    }


def tokens_of(play: Mapping[str, float], done: Literal["read", "generated"]) -> float | None:
    """What all members together read or generated; None where nobody is said to have."""
    found = [v for name, v in play.items() if re.fullmatch(f"cost/.*/{done}_tokens", name)]
    return sum(found) if found else None


def operations_of(play: Mapping[str, float]) -> float | None:
    """10^9 operations of all members together; None where one who did something does not tell."""
    costs = [re.fullmatch(r"cost/(.*)/(?:read|generated)_tokens", name) for name in play]
    members = {cost[1] for cost in costs if cost and play[cost[0]]}
    found = [play.get(f"cost/{member}/giga_operations") for member in members]
    known = [operations for operations in found if operations is not None]
    return sum(known) if known and len(known) == len(found) else None


def mean_of(measured: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number; what one lacks counts as 0 there."""
    given = list(measured)
    totals: dict[str, float] = defaultdict(float)
    for numbers in given:
        for name, value in numbers.items():
            totals[name] += value
    return {name: total / len(given) for name, total in totals.items()}
