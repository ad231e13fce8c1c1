"""The question of a run and its answer, as a reader wants them first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from train.analysis.exports import Table, interval, label, p_value
from train.analysis.rows import SELF_CONSISTENCY, UNTRAINED
from train.report.runs import Group, ReportedRun
from train.step_times import PARTS

QUESTION = "Did the agent learn to plan chapters of books that it has never seen?"
LEVEL = 0.05
NONE = "–"
IN_STEPS = tuple(part for part in PARTS if part != "outside")


@dataclass(frozen=True)
class Answer:
    """`verdict` in a word or three, and the sentences that it stands on."""

    experiment: str
    verdict: str
    sentences: tuple[str, ...]


def answer(group: Group) -> Answer:
    """From the paired tests of every seed: learned is what beats the untrained agent in all."""
    found = [(run, gain) for run in group.runs if (gain := _gain(run)) is not None]
    gains = [gain for _, gain in found]
    if not gains:
        return Answer(group.name, "Unknown", ("There is no untrained agent to compare with.",))
    ahead = sum(_is_sure(gain) and gain["difference"]["mean"] > 0 for gain in gains)
    behind = sum(_is_sure(gain) and gain["difference"]["mean"] < 0 for gain in gains)
    if ahead == len(gains):
        verdict = "Yes"
    elif behind == len(gains):
        verdict = "No, it got worse"
    else:
        verdict = f"In {ahead} of {len(gains)} seeds" if len(gains) > 1 else "Not shown"
    sentences = [_of_run(run, gain) for run, gain in found]
    if len(gains) > 1:
        sentences.insert(0, _of_all(found))
    sentences += [*_against_controls(group.runs), *_beyond(group.runs)]
    return Answer(group.name, verdict, tuple(sentences))


def _gain(run: ReportedRun) -> Mapping[str, Any] | None:
    best = run.best_row
    start = {**best, "name": UNTRAINED}
    return run.comparison(label(best), label(start))


def _is_sure(comparison: Mapping[str, Any]) -> bool:
    return comparison["p_holm"] < LEVEL


def _of_all(found: Sequence[tuple[ReportedRun, Mapping[str, Any]]]) -> str:
    reached = fmean(run.best_row["improvement"]["mean"] for run, _ in found)
    gains = [gain["difference"]["mean"] for _, gain in found]
    return (
        f"Over {len(gains)} seeds the improvement changed by {fmean(gains):+.1f} points on average "
        f"(from {min(gains):+.1f} to {max(gains):+.1f}), to {reached:+.1f} %."
    )


def _of_run(run: ReportedRun, gain: Mapping[str, Any]) -> str:
    best, start = run.best_row, run.row(gain["second"])
    before = "" if start is None else f"from {start['improvement']['mean']:+.1f} "
    mean, ci95 = gain["difference"]["mean"], interval(gain["difference"]["ci95"])
    return (
        f"Seed {run.seed}: the improvement of '{label(best)}' went {before}to "
        f"{best['improvement']['mean']:+.1f} %, by {mean:+.1f} points {ci95} on "
        f"{best['episodes']} chapters of {best['books']} books "
        f"(p {_equals(gain['p_holm'])}, Holm)."
    )


def _against_controls(runs: Sequence[ReportedRun]) -> Iterator[str]:
    """How the agent stands to what knows nothing of the chapter, as means over the seeds."""
    names = {
        "empty_plan": "no plan",
        "shuffled_plan": "another book's plan",
        SELF_CONSISTENCY: "the agent alone with as many tokens",
        "best_single": "the writer that is best on validation books",
    }
    for control, shown in names.items():
        compared = (run.comparison(label(run.best_row), control) for run in runs)
        found = [comparison for comparison in compared if comparison is not None]
        if not found:
            continue
        mean = fmean(comparison["difference"]["mean"] for comparison in found)
        stands = f"{abs(mean):.1f} points {'ahead of' if mean > 0 else 'behind'} {shown}"
        if len(found) == 1:
            sure = "" if _is_sure(found[0]) else ", which may be chance"
            yield f"It is {stands} (p {_equals(found[0]['p_holm'])}, Holm){sure}."
        else:
            alike = sum(_is_sure(c) and c["difference"]["mean"] * mean > 0 for c in found)
            yield (
                f"On average it is {stands}; in {alike} of {len(found)} seeds that is more than "
                f"chance (p < {LEVEL}, Holm)."
            )


def _beyond(runs: Sequence[ReportedRun]) -> Iterator[str]:
    """What the plans are worth to another generator, and how far they are from the best ones."""
    for run in runs:
        second = run.best_row.get("second_generator")
        if second is not None:
            yield (
                f"Under a second generator, which it was not trained on, its plans are worth "
                f"{second['mean']:+.1f} % {interval(second['ci95'])} (seed {run.seed})."
            )
    ceilings = [run.row("inferable_plan") for run in runs]
    shares = [
        run.best_row["improvement"]["mean"] / ceiling["improvement"]["mean"]
        for run, ceiling in zip(runs, ceilings, strict=True)
        if ceiling is not None and ceiling["improvement"]["mean"] > 0
    ]
    if len(shares) == len(runs) and min(shares) > 0:
        each = f" ({', '.join(f'{share:.0%}' for share in shares)})" if len(shares) > 1 else ""
        yield f"It reaches {fmean(shares):.0%} of what a perfect reasoner would{each}."


def _equals(p: float) -> str:
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def cost(groups: Sequence[Group]) -> Table:
    """Where the time of each run's reinforcement went, and what it cost where a price was set.

    What no run has measured is left out.
    """
    rows = [row for group in groups for run in group.runs if (row := _cost(group.name, run))]
    measured = [name for name in (rows[0] if rows else ()) if any(r[name] != NONE for r in rows)]
    return measured, [tuple(row[name] for name in measured) for row in rows]


def _cost(experiment: str, run: ReportedRun) -> dict[str, Any]:
    steps = [m for m in run.metrics if m.get("step_time") is not None]
    if not steps:
        return {}
    in_steps = sum(m["step_time"] for m in steps)
    whole = max(in_steps, run.metrics[-1]["time_s"] - run.metrics[0]["time_s"])
    tokens = max((m.get("num_tokens") or 0 for m in run.metrics), default=0)
    speeds, mfus, prices = (
        [m[name] for m in run.metrics if m.get(name) is not None]
        for name in ("throughput/tokens_per_s", "throughput/mfu", "cost/step")
    )
    return {
        "experiment": experiment,
        "seed": run.seed,
        "steps": len(steps),
        "minutes": f"{whole / 60:.1f}",
        "s per step": f"{in_steps / len(steps):.2f}",
        **dict(zip(IN_STEPS, _shares(run, whole), strict=True)),
        "outside steps": f"{100 * (1 - in_steps / whole):.0f} %",
        "tokens": f"{tokens:,.0f}",
        "tokens per s": f"{fmean(speeds):,.0f}" if speeds else NONE,
        "MFU": f"{fmean(mfus):.1%}" if mfus else NONE,
        "cost": f"{sum(prices):,.2f}" if prices else NONE,
    }


def _shares(run: ReportedRun, whole: float) -> list[str]:
    """The share of the whole time that each part of the steps took; – where none was measured."""
    found = []
    for part in IN_STEPS:
        taken = [m[f"time/{part}"] for m in run.metrics if m.get(f"time/{part}") is not None]
        found.append(f"{100 * sum(taken) / whole:.0f} %" if taken else NONE)
    return found
