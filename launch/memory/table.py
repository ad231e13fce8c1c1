"""The plan as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from launch.memory.terms import GB, Phase


def as_text(num_bytes: float) -> str:
    """In GB of 10^9 bytes, as GPUs are sold."""
    return f"{num_bytes / GB:.1f} GB"


def as_table(phases: Sequence[Phase]) -> Table:
    """Every term of every phase with its arithmetic; what a phase takes in all stands last."""
    table = Table(title="Memory per GPU", title_justify="left", highlight=False)
    table.add_column("phase")
    table.add_column("term")
    table.add_column("GB", justify="right")
    table.add_column("arithmetic", overflow="fold")
    for phase in phases:
        rows = [(term.name, term.num_bytes, term.arithmetic) for term in phase.terms]
        if phase.beside is not None:
            rows.insert(0, (f"{phase.beside.name}, as above", phase.beside.num_bytes, ""))
        for place, (name, num_bytes, arithmetic) in enumerate(rows):
            first = phase.name if place == 0 else ""
            table.add_row(first, name, f"{num_bytes / GB:.2f}", arithmetic)
        table.add_row("", "in all", f"{phase.num_bytes / GB:.2f}", "", style="bold")
        table.add_section()
    return table
