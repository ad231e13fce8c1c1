"""Lengths at which a family begins to compute something else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from transformers import PretrainedConfig

from rewards.likelihood.model_limits import context_window

Item = TypeVar("Item")

# Fields that hold such a length: attention windows, the number of tokens beyond which attention
# begins to choose among them, and the context up to which a rotary embedding uses one set of
# frequencies and beyond which, for the whole sequence, another.
LENGTH_FIELDS = (
    "sliding_window",
    "attention_chunk_size",
    "index_topk",
    "original_max_position_embeddings",
)


@dataclass(frozen=True)
class Reach:
    """The groups for which a finding holds: of these regimes of the prefix and of the longest whole
    sequence, and neither longer than this.
    """

    regimes: tuple[int, int]
    prefix_tokens: int
    num_tokens: int

    def covers(self, other: Reach) -> bool:
        return (
            self.regimes == other.regimes
            and self.prefix_tokens >= other.prefix_tokens
            and self.num_tokens >= other.num_tokens
        )


class LengthRegimes:
    """Numbers the stretches between the lengths at which a family begins to compute otherwise.

    Sequences of different regimes never share a batch, as padding would carry the shorter one into
    the regime of the longer.

    Not every family names such a length in a field that is known here, so what was tried at one
    length of a regime holds only up to that length: `length_to_try` is twice as long as asked for.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        text = config.get_text_config()
        fields = [vars(text), *_dicts([getattr(text, "rope_parameters", None)])]
        found = {f.get(name) for f in fields for name in LENGTH_FIELDS}
        self._last = sorted(n for n in found if isinstance(n, int) and n > 0)
        self._longest = context_window(config)

    def of(self, num_tokens: int) -> int:
        """The regime of a sequence: 0 up to and with the first of the lengths."""
        return bisect_left(self._last, num_tokens)

    def length_to_try(self, num_tokens: int) -> int:
        """The length at which to try what shall hold for sequences of so many tokens and longer.

        Twice as many, so that few trials do for all lengths; but within their regime, and no longer
        than the model reads.
        """
        ends = [2 * num_tokens, *self._last[self.of(num_tokens) :][:1], self._longest]
        return min(end for end in ends if end is not None)

    def reach(self, prefix_tokens: int, num_tokens: int) -> Reach:
        """That of a group, by its prefix and its longest sequence."""
        return Reach((self.of(prefix_tokens), self.of(num_tokens)), prefix_tokens, num_tokens)

    def reach_to_try(self, group: Reach) -> Reach:
        """With what prefix to try what shall hold for such a group and longer ones."""
        rest = group.num_tokens - group.prefix_tokens
        longest_prefix = self.length_to_try(group.num_tokens) - rest
        prefix_tokens = min(self.length_to_try(group.prefix_tokens), longest_prefix)
        return Reach(group.regimes, prefix_tokens, prefix_tokens + rest)

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
