"""The evaluation as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from train.analysis.exports import comparisons_table as printed_comparisons
from train.analysis.rows import Evaluation, Row
from train.statistics import Interval


def evaluation_table(evaluation: Evaluation) -> Table:
    """One line per row: improvement in per cent with its 95 % interval."""
    table = Table(
        title="Improvement on unseen books (%)", title_justify="left", caption_justify="left"
    )
    for column, justify in (
        ("plan", "left"),
        ("decoding", "left"),
        ("mean", "right"),
        ("95 % interval", "right"),
        ("episodes", "right"),
        ("books", "right"),
    ):
        table.add_column(column, justify=justify)  # pyright: ignore[reportArgumentType]
    if any(row.second for row in evaluation.rows):
        table.add_column("second generator", justify="right")
    for row in evaluation.rows:
        table.add_row(*_cells(row))
    for section in (evaluation.ablations, evaluation.checks):
        table.add_section()
        for row in section:
            table.add_row(*_cells(row))
    num_episodes = max((len(row.attempts) for row in evaluation.rows), default=0)
    notes = [
        f"{num} of {num_episodes} episodes: the {part} was too long for the generator and was cut."
        for part, num in evaluation.num_cut.items()
        if num
    ]
    if evaluation.recall is not None:
        notes.append(
            f"The generator goes on by heart with {evaluation.recall.mean:.1%} of what follows the "
            "beginning of a chapter."
        )
    for whole, share in evaluation.ahead.items():
        low, high = share.ci95
        notes.append(
            f"{whole.replace('_', ' ')} is ahead of every member alone on {share.mean:.0%} of "
            f"episodes [{100 * low:.0f}, {100 * high:.0f}]."
        )
    table.caption = "\n".join(notes)
    return table


def comparisons_table(evaluation: Evaluation) -> Table:
    """Which row is ahead of which, episode by episode, and whether that may be chance."""
    columns, rows = printed_comparisons(evaluation.as_json())
    table = Table(
        title="Who is ahead of whom (points of improvement on the same episodes)",
        title_justify="left",
        caption=(
            "p: two-sided, from flipping the signs of whole books.\n"
            "Holm: corrected for all pairs of agents, or for all of agents and controls."
        ),
        caption_justify="left",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "pair" else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.improvement.ci95
    return (
        row.name.replace("_", " "),
        row.decoding or "",
        f"{row.improvement.mean:+.2f}",
        f"[{low:+.2f}, {high:+.2f}]",
        str(len(row.attempts)),
        str(len({a.episode.book_id for a in row.attempts})),
        *((_interval(row.second),) if row.second else ()),
    )


def _interval(found: Interval) -> str:
    low, high = found.ci95
    return f"{found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
