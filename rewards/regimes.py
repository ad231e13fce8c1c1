"""Lengths at which a family begins to compute something else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from transformers import PretrainedConfig

Item = TypeVar("Item")

# Fields that hold such a length: attention windows, and the context up to which a rotary embedding
# uses one set of frequencies and beyond which, for the whole sequence, another.
LENGTH_FIELDS = ("sliding_window", "attention_chunk_size", "original_max_position_embeddings")


class LengthRegimes:
    """Numbers the stretches between the lengths at which a family begins to compute otherwise.

    Sequences of different regimes never share a batch, as padding would carry the shorter one into
    the regime of the longer.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        text = config.get_text_config()
        fields = [vars(text), *_dicts([getattr(text, "rope_parameters", None)])]
        found = {f.get(name) for f in fields for name in LENGTH_FIELDS}
        self._last = sorted(n for n in found if isinstance(n, int) and n > 0)

    def of(self, num_tokens: int) -> int:
        """The regime of a sequence: 0 up to and with the first of the lengths."""
        return bisect_left(self._last, num_tokens)

    def split(self, items: Sequence[Item], num_tokens: Callable[[Item], int]) -> list[list[Item]]:
        """The items by regime, longest sequences first."""
        parts: dict[int, list[Item]] = {}
        for item in items:
            parts.setdefault(self.of(num_tokens(item)), []).append(item)
        return [parts[regime] for regime in sorted(parts, reverse=True)]


def _dicts(values: Iterable[Any]) -> list[dict[str, Any]]:
    """All dicts among the values, and the dicts in them: some families keep one per layer type."""
    return [
        d for value in values if isinstance(value, dict) for d in (value, *_dicts(value.values()))
    ]
