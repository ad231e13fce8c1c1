"""Bytes of one GPU, term by term: each with the arithmetic that it comes from."""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Term:
    """What one thing takes on one GPU. `arithmetic` is read by people."""

    name: str
    num_bytes: int
    arithmetic: str


@dataclass(frozen=True)
class Phase:
    """A part of a run, with what lies on a GPU at its height on top of `beside`, which stays."""

    name: str
    terms: tuple[Term, ...]
    beside: Phase | None = None

    @property
    def num_bytes(self) -> int:
        beside = 0 if self.beside is None else self.beside.num_bytes
        return beside + sum(term.num_bytes for term in self.terms)


def times(*factors: tuple[float, str]) -> str:
    """A product as people write it: `2 B × 7.62 G weights / 8 GPUs`."""
    return " × ".join(f"{short(value)} {unit}".strip() for value, unit in factors)


def short(value: float) -> str:
    """Three digits, and a letter for thousands, millions, milliards."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if abs(value) >= size:
            scale = 10**3 if letter == "k" else size
            return f"{value / scale:.3g}{letter}"
    return f"{value:.4g}"
