"""Merges models of one architecture, tensor by tensor, at any coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from train.merging import methods
from train.merging.coefficients import Coefficients, Per, group_of
from train.merging.methods import Coefficient
from train.merging.weights import Weights

Combine = Callable[[Tensor, Sequence[Tensor], Sequence[Coefficient]], Tensor]
"""One tensor of the base's, of each member's, and of one coefficient per member."""


def _arc(base: Tensor, members: Sequence[Tensor], weights: Sequence[Coefficient]) -> Tensor:
    first, second = members
    return methods.slerp(first, second, methods.shares(weights)[1])


COMBINE: Mapping[str, Combine] = {
    "linear": lambda base, members, weights: methods.linear(members, weights),
    "slerp": _arc,
    "task_arithmetic": methods.task_arithmetic,
    "ties": methods.elected,
    "dare": methods.task_arithmetic,
    "lora": methods.task_arithmetic,
}
"""By method; what TIES trims, DARE drops and LoRA leaves out is done to the members before."""


class Merger:
    """Weights of a base and of members, and how one tensor is made of theirs.

    What is no floating-point number, such as a mask or a counter, stays the base's. A merge has the
    base's precision, whatever it was computed in.
    """

    def __init__(self, base: Weights, members: Mapping[str, Weights], combine: Combine) -> None:
        self.base = base
        self.members = members
        self.combine = combine

    def merged(self, coefficients: Coefficients) -> dict[str, Tensor]:
        """The weights of the merge."""
        assert coefficients.writers == tuple(self.members)
        return self._merged(coefficients.values, coefficients.per)

    def merged_at(self, values_GN: Tensor, like: Coefficients) -> dict[str, Tensor]:
        """The same at coefficients in a tensor, to which gradients flow."""
        rows = [list(row.unbind()) for row in values_GN.unbind()]
        return self._merged(dict(zip(like.values, rows, strict=True)), like.per)

    def _merged(self, values: Mapping[str, Sequence[Coefficient]], per: Per) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, base in self.base.items():
            if not base.is_floating_point():
                found[name] = base
                continue
            theirs = [weights[name] for weights in self.members.values()]
            found[name] = self.combine(base, theirs, values[group_of(name, per)]).to(base.dtype)
        return found
