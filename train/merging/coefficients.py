"""How much of each writer goes into a merge: one number per writer, for parts of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Per = Literal["model", "layer", "tensor"]

# The number of a block in the name of a weight: model.layers.3.mlp.up_proj.weight.
_BLOCK = re.compile(r"\.(\d+)\.")
WHOLE, OUTSIDE = "all", "outside"

# G groups of tensors, N writers.


def group_of(name: str, per: Per) -> str:
    """The group of a weight: all, its block (or outside of all blocks), or itself."""
    if per == "model":
        return WHOLE
    if per == "tensor":
        return name
    block = _BLOCK.search(name)
    return OUTSIDE if block is None else name[: block.end() - 1]


@dataclass(frozen=True)
class Coefficients:
    """For each group of weights, one number per writer, in the writers' order."""

    writers: tuple[str, ...]
    per: Per
    values: Mapping[str, tuple[float, ...]]

    @classmethod
    def same(
        cls, writers: Sequence[str], values: Sequence[float], per: Per, names: Iterable[str]
    ) -> Coefficients:
        """The same values for every group of the weights of these names."""
        groups = dict.fromkeys(group_of(name, per) for name in names)
        return cls(tuple(writers), per, {group: tuple(values) for group in groups})

    @property
    def flat(self) -> tuple[float, ...]:
        """All of them in a row, group by group: a point that a search can move."""
        return tuple(value for row in self.values.values() for value in row)

    @property
    def tensor_GN(self) -> Tensor:
        return torch.tensor(list(self.values.values()), dtype=torch.float64)

    def at(self, flat: Sequence[float]) -> Coefficients:
        """The same groups and writers with other numbers."""
        width = len(self.writers)
        assert len(flat) == width * len(self.values)
        rows = [tuple(map(float, flat[i : i + width])) for i in range(0, len(flat), width)]
        return Coefficients(self.writers, self.per, dict(zip(self.values, rows, strict=True)))

    def plain(self) -> dict[str, object]:
        """As JSON holds it."""
        values = {group: list(row) for group, row in self.values.items()}
        return {"writers": list(self.writers), "per": self.per, "values": values}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Coefficients:
        """What `plain` gave.

        Raises:
            ValueError: it is something else.
        """
        match plain:
            case {
                "writers": list(writers),
                "per": "model" | "layer" | "tensor" as per,
                "values": dict(values),
            } if all(isinstance(row, list) and len(row) == len(writers) for row in values.values()):
                rows = {group: tuple(map(float, row)) for group, row in values.items()}
                return cls(tuple(writers), per, rows)
        raise ValueError(
            "the coefficients of a merge are writers, per, and values with one number per writer; "
            f"got {str(plain)[:80]}"
        )
