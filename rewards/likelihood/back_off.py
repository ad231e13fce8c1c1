"""Batches under a budget of tokens that gives way to memory."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache

from rewards.types import ScoreRequest

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class DoesNotFit(ValueError):
    """Memory is too short for what cannot be made smaller."""


@dataclass
class TokenBudget:
    """How many tokens go through the model at once; it only ever shrinks."""

    max_tokens: int

    def shrink(self, failed_tokens: int) -> None:
        """To half of what did not fit."""
        self.max_tokens = max(1, min(self.max_tokens, failed_tokens) // 2)


def run_batches(
    requests: Sequence[ScoreRequest],
    num_tokens: Callable[[ScoreRequest], int],
    form: Callable[[Sequence[int], int], list[list[int]]],
    run: Callable[[Sequence[ScoreRequest]], Sequence[Result]],
    budget: TokenBudget,
) -> dict[ScoreRequest, Result]:
    """What `run` makes of each request, in batches that `form` makes of the lengths.

    A request that is scored by itself is a batch of its own. Where a batch runs out of memory the
    budget shrinks and that batch alone is run anew in smaller ones; what other batches gave is
    kept.

    Raises:
        DoesNotFit: a request does not fit into memory on its own; the message names the episode.
    """

    def formed(rows: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
        batches = form([num_tokens(row) for row in rows], budget.max_tokens)
        return [[rows[i] for i in batch] for batch in batches]

    done: dict[ScoreRequest, Result] = {}
    waiting = deque(formed([r for r in requests if not r.by_itself]))
    waiting.extend([r] for r in requests if r.by_itself)
    while waiting:
        batch = waiting.popleft()
        try:
            done.update(zip(batch, run(batch), strict=True))
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise DoesNotFit(
                    f"episode {batch[0].episode_id}: one sequence of {batch[0].num_tokens} tokens "
                    "does not fit into the memory of the generator's device; lower "
                    "generator.max_context_tokens or max_gold_tokens, or free memory."
                ) from error
        # Outside the handler: the error's traceback holds the tensors that filled the memory.
        clear_device_cache(garbage_collection=True)
        budget.shrink(sum(num_tokens(row) for row in batch))
        logger.warning("out of memory; batches hold at most %d tokens now", budget.max_tokens)
        waiting.extendleft(reversed(formed(batch)))
    return done


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on an accelerator or on the CPU."""
    return isinstance(error, DoesNotFit | MemoryError | torch.OutOfMemoryError) or (
        # On the CPU, torch has no error class of its own for it.
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
