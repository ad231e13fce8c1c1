"""Which experiment is best, and at what cost: a table over all of them, and the frontier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from train.analysis.exports import Table, interval, label
from train.analysis.rows import UNTRAINED, is_ahead, members_of, operations_of, tokens_of
from train.judging.improvements import read_improvements
from train.report.runs import Group, ReportedRun
from train.statistics import Interval, clustered_bootstrap

NUM_SAMPLES = 10_000
UNKNOWN = "–"

Improvements = Mapping[str, Mapping[str, float]]
"""Of each row of a run's table, by episode."""


@dataclass(frozen=True)
class Entry:
    """One experiment: means over the episodes of all its seeds, with 95 % intervals over books.

    `gain` is what learning has added, in points. `ahead` is the share of episodes on which the
    whole is better than each of its members alone. Tokens are those that all members and the
    generator read and write for one chapter, and operations what these take by the size of each;
    None where a run does not say.
    """

    name: str
    env: str
    improvement: Interval
    gain: Interval | None
    ahead: Interval | None
    read_tokens: float | None
    written_tokens: float | None
    giga_operations: float | None = None

    @classmethod
    def of(cls, group: Group) -> Entry:
        best = [run.best_row for run in group.runs]
        found = [_improvements(run) for run in group.runs]

        def pooled(number: Callable[[Improvements, str], Mapping[str, float]]) -> Interval | None:
            values = [
                value
                for own, row in zip(found, best, strict=True)
                for value in number(own, label(row)).items()
            ]
            if not values:
                return None
            books = [episode.rpartition("/")[0] for episode, _ in values]
            return clustered_bootstrap([value for _, value in values], books, NUM_SAMPLES)

        improvement = pooled(lambda own, row: own[row])
        assert improvement is not None, "an evaluation has episodes"
        return cls(
            group.name,
            str(group.first.config.get("env", {}).get("_target_", "")).rpartition(".")[2],
            improvement,
            pooled(_gained),
            pooled(_is_ahead),
            _mean([tokens_of(row.get("play") or {}, "read") for row in best]),
            _mean([tokens_of(row.get("play") or {}, "generated") for row in best]),
            _mean([operations_of(row.get("play") or {}) for row in best]),
        )

    @property
    def tokens(self) -> float | None:
        """Read and written; each takes about as many operations as the other."""
        if self.read_tokens is None or self.written_tokens is None:
            return None
        return self.read_tokens + self.written_tokens


def leaderboard(entries: Sequence[Entry]) -> Table:
    """The entries by improvement; on the frontier none is both better and cheaper.

    Who does not say what it cost stands off the frontier.
    """
    columns = (
        *("experiment", "env", "improvement (%)", "95 %", "gained by learning", "95 % of it"),
        *("ahead of every member", "tokens read", "tokens written", "10^9 operations"),
        "on the frontier",
    )
    rows = [
        (
            *(e.name, e.env, f"{e.improvement.mean:+.2f}", interval(e.improvement.ci95)),
            *((UNKNOWN, UNKNOWN) if e.gain is None else _shown(e.gain)),
            UNKNOWN if e.ahead is None else _share(e.ahead),
            *(
                UNKNOWN if tokens is None else f"{tokens:.0f}"
                for tokens in (e.read_tokens, e.written_tokens)
            ),
            UNKNOWN if e.giga_operations is None else f"{e.giga_operations:.3g}",
            "yes" if is_on_frontier(e, entries) else "",
        )
        for e in sorted(entries, key=lambda e: -e.improvement.mean)
    ]
    return columns, rows


def is_by_operations(entries: Sequence[Entry]) -> bool:
    """Whether all who say what they cost say it in operations, so that these are compared."""
    said = [entry for entry in entries if entry.tokens is not None]
    return bool(said) and all(entry.giga_operations is not None for entry in said)


def price(entry: Entry, entries: Sequence[Entry]) -> float | None:
    """What the entry cost in the terms in which all of them are compared: operations or tokens."""
    return entry.giga_operations if is_by_operations(entries) else entry.tokens


def is_on_frontier(own: Entry, entries: Sequence[Entry]) -> bool:
    cost = price(own, entries)
    if cost is None:
        return False
    others = [(e.improvement.mean, price(e, entries)) for e in entries]
    return not any(
        spent is not None
        and gain >= own.improvement.mean
        and spent <= cost
        and (gain, spent) != (own.improvement.mean, cost)
        for gain, spent in others
    )


def _improvements(run: ReportedRun) -> Improvements:
    found: dict[str, dict[str, float]] = {}
    for (episode, row), improvement in read_improvements(run.path).items():
        found.setdefault(row, {})[episode] = improvement
    return found


def _gained(own: Improvements, row: str) -> dict[str, float]:
    """The row less the same one before learning, where it has been trained."""
    name, _, decoding = row.partition(" ")
    before = own.get(f"{UNTRAINED} {decoding}".strip(), {}) if name != UNTRAINED else {}
    return {episode: own[row][episode] - start for episode, start in before.items()}


def _is_ahead(own: Improvements, row: str) -> dict[str, float]:
    """1 for each episode on which the row beats all members."""
    alone = [own[name] for name in members_of(own)]
    if not alone:
        return {}
    return {
        episode: float(is_ahead(value, (values[episode] for values in alone)))
        for episode, value in own[row].items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _shown(found: Interval) -> tuple[str, str]:
    return f"{found.mean:+.2f}", interval(found.ci95)


def _share(found: Interval) -> str:
    low, high = (f"{100 * end:.0f}" for end in found.ci95)
    return f"{100 * found.mean:.0f} % [{low}, {high}]"
