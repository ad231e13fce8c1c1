"""Voices of one model: peft adapters on shared weights, named by the roles that speak with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# peft's name for adapters that are not of one role; TRL keeps its reference under another.
SHARED = frozenset({"default", "ref"})
NO_VOICE = ""


def voices(model: Any) -> tuple[str, ...]:
    """The roles that have adapters of their own, sorted; none of most models."""
    return tuple(sorted(set(getattr(model, "peft_config", {})) - SHARED))


@contextmanager
def learning_as_before(model: Any) -> Iterator[None]:
    """Which weights learn is after the block what it was before: peft lets those of the active
    adapter learn alone."""
    learning = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for weight, learns in learning:
            weight.requires_grad_(learns)


@contextmanager
def speaking(model: Any, voice: str = NO_VOICE) -> Iterator[None]:
    """Within the block the model is its weights with the adapter of this voice, or with none.

    A model without voices stays as it is.
    """
    if not voices(model):
        yield
        return
    with learning_as_before(model):
        if voice == NO_VOICE:
            with model.disable_adapter():
                yield
        else:
            model.set_adapter(voice)
            yield
