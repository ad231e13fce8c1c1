"""The report on judgments as tables for the terminal, and what they leave out in plain lines."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from train.judging.intervals import Estimate, wilson
from train.judging.judgments import DIMENSIONS, OVERALL
from train.judging.preferences import Strengths
from train.judging.report import DimensionReport, JudgmentReport

UNKNOWN = "–"


def judgment_tables(report: JudgmentReport) -> list[Table]:
    return [_pairs(report), _overall(report), *_strengths(report)]


def _pairs(report: JudgmentReport) -> Table:
    table = _table("How often the first is preferred over the second (%), ties dropped", "pair")
    for dimension in DIMENSIONS:
        table.add_column(_words(dimension), justify="right")
    for pair in report.dimensions[OVERALL].preferences.pairs:
        cells = [
            _percent(found.probability)
            for dimension in DIMENSIONS
            for found in report.dimensions[dimension].preferences.pairs
            if (found.first, found.second) == (pair.first, pair.second)
        ]
        table.add_row(f"{pair.first} over {pair.second}", *cells)
    table.caption = _intervals(report)
    return table


def _overall(report: JudgmentReport) -> Table:
    columns = ("won", "tied", "lost", "% won of decided", "Wilson interval", "% with half ties")
    table = _table(f"{_words(OVERALL).capitalize()} in detail", "pair")
    for column in columns:
        table.add_column(column, justify="right")
    for pair in report.dimensions[OVERALL].preferences.pairs:
        table.add_row(
            f"{pair.first} over {pair.second}",
            *(str(count) for count in (pair.wins, pair.ties, pair.losses)),
            _percent(pair.probability),
            _interval(pair.probability_wilson, 100, 1).strip() or UNKNOWN,
            _percent(pair.probability_half_ties),
        )
    return table


def _strengths(report: JudgmentReport) -> Iterator[Table]:
    models = {
        "Strengths, all pairs together: Bradley-Terry, ties dropped": "bradley_terry",
        "Strengths, all pairs together: Davidson, ties counted": "davidson",
    }
    for title, model in models.items():
        table = _table(title, "option")
        found: dict[str, Strengths | None] = {}
        for dimension in DIMENSIONS:
            table.add_column(_words(dimension), justify="right")
            found[dimension] = getattr(report.dimensions[dimension].preferences, model)
        for option in report.options:
            by_option = [s and s.by_option[option] for s in found.values()]
            table.add_row(option, *(_share(estimate) for estimate in by_option))
        if model == "davidson":
            table.add_row("(weight of ties)", *(_share(s and s.tie_weight) for s in found.values()))
        table.caption = "\n".join(_cautions(found)) or None
        yield table


def _cautions(found: dict[str, Strengths | None]) -> Iterator[str]:
    for dimension, strengths in found.items():
        if strengths is None:
            yield f"{_words(dimension)}: none, as the decided votes do not link all options."
        elif not strengths.is_finite:
            yield (
                f"{_words(dimension)}: the votes fix no finite strengths, as where an option lost "
                "everything; a hundredth of a win was added to each pair, either way."
            )
    resamples = {_words(d): s.num_not_finite for d, s in found.items() if s and s.num_not_finite}
    if resamples:
        counts = ", ".join(f"{name} {count}" for name, count in resamples.items())
        yield f"Resamples whose votes fix no finite strengths, so that the same was done: {counts}."


def judgment_notes(report: JudgmentReport) -> Iterator[str]:
    """What is not in the tables: exclusions, agreement, position, improvement."""
    overall = report.dimensions[OVERALL]
    for dimension, found in report.dimensions.items():
        left_out = {what: count for what, count in found.unanswered.items() if count}
        if left_out:
            counts = ", ".join(f"{count} {what}" for what, count in left_out.items())
            yield (
                f"{_words(dimension)}: {counts} of {report.num_judgments} judgments; "
                f"{found.preferences.num_unanswered} votes left out."
            )
    yield _agreement(overall)
    yield _position(overall)
    yield _improvement(overall)


def _agreement(overall: DimensionReport) -> str:
    found = overall.agreement
    if not found.num_pairs_shared:
        return "Agreement: unknown, as no pair of texts was judged by two annotators."
    alpha = UNKNOWN if found.alpha is None else f"{found.alpha:.3f}"
    kappas = [kappa for _, kappa in found.kappas.values() if kappa is not None]
    mean = f"{sum(kappas) / len(kappas):.3f}" if kappas else UNKNOWN
    return (
        f"Agreement on overall quality: Krippendorff's alpha {alpha} over {found.num_pairs_shared} "
        f"pairs with two or more annotators; mean Cohen's kappa {mean}."
    )


def _position(overall: DimensionReport) -> str:
    found = overall.position
    decided = found.first_won + found.second_won
    if not decided:
        return "Position bias: unknown, as the column first does not say what was shown first."
    share = Estimate(found.first_won / decided, wilson(found.first_won, decided))
    both = found.in_both_orders
    num_pairs = sum(both.values())
    line = f"Position: the text shown first won {_percent(share)} % of {decided} decided judgments"
    if num_pairs:
        line += (
            f"; of {num_pairs} pairs judged in both orders, {both['same_option']} have the "
            f"same winner, {both['first_text']} went to the first text twice and "
            f"{both['second_text']} to the second"
        )
    unknown = f" ({found.num_unknown} with unknown order left out)" if found.num_unknown else ""
    return f"{line}{unknown}."


def _improvement(overall: DimensionReport) -> str:
    found = overall.association
    if not found.num_votes:
        return "Improvement and preference: unknown, as no vote has improvements for both options."
    decided = found.agreeing + found.disagreeing
    unknown = f" ({found.num_unknown} without)" if found.num_unknown else ""
    return (
        f"Improvement and preference: Spearman {_share(found.spearman)} over {found.num_votes} "
        f"votes with improvements{unknown}; the larger improvement was preferred in "
        f"{found.agreeing} of {decided} decided votes."
    )


def _intervals(report: JudgmentReport) -> str:
    if report.num_clusters < 2:
        return f"No intervals: there is one {report.resampled} alone."
    return (
        f"Brackets are 95 % intervals from {report.num_resamples:,} bootstrap resamples of "
        f"{report.num_clusters} {report.resampled}s."
    )


def _table(title: str, first_column: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first_column, no_wrap=True)
    return table


def _words(dimension: str) -> str:
    return dimension.replace("_", " ")


def _percent(estimate: Estimate) -> str:
    if estimate.value is None:
        return UNKNOWN
    return f"{100 * estimate.value:.1f}{_interval(estimate.ci95, 100, 1)}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return UNKNOWN
    return f"{estimate.value:.3f}{_interval(estimate.ci95, 1, 2)}"


def _interval(ci95: tuple[float, float] | None, scale: int, digits: int) -> str:
    if ci95 is None:
        return ""
    return " [" + ", ".join(f"{scale * limit:.{digits}f}" for limit in ci95) + "]"
