"""Tensors that are part of a request: known by their content, and never changed."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, TypeVar

import torch
from torch import Tensor

Combining = TypeVar("Combining")


class Known:
    """A tensor in CPU memory, equal to any other of the same shape and numbers."""

    __slots__ = ("digest", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        content = str(tuple(tensor.shape)).encode() + self.tensor.numpy().tobytes()
        self.digest = hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Known({self.digest})"


def tensor_of(numbers: Known | Tensor, like: Tensor) -> Tensor:
    """The numbers where and as the other tensor is; differentiable if they are being learned."""
    return (numbers.tensor if isinstance(numbers, Known) else numbers).to(like)


def frozen(combine: Combining) -> Combining:
    """The same way of combining, its tensors become numbers: hashable, and learning no more."""
    assert dataclasses.is_dataclass(combine) and not isinstance(combine, type)
    fields = {f.name: getattr(combine, f.name) for f in dataclasses.fields(combine)}
    return dataclasses.replace(combine, **{name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.ndim >= 2:
            return Known(value)
        numbers = value.detach().tolist()
        return tuple(numbers) if value.ndim else numbers
    return frozen(value) if dataclasses.is_dataclass(value) else value
