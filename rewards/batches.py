"""Which rows go through the model together, under a budget of tokens that gives way to memory."""

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


def padded_batches(
    lengths: Sequence[int], max_tokens: int, tokens_per_call: int = 0
) -> list[list[int]]:
    """Indices of rows in the batches that cost least, longest first.

    A batch costs its padded size and `tokens_per_call`; its padded size stays within `max_tokens`,
    but a longer row stands alone. Longest first: the batch most likely to run out of memory is the
    first one, not the last.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    # costs[n] is the least cost of the n longest rows, whose last batch begins at starts[n].
    costs, starts = [0], [0]
    for end in range(1, len(order) + 1):
        best_cost, best_start = None, end - 1
        for start in range(end - 1, -1, -1):
            size = lengths[order[start]] * (end - start)
            # Further left, rows are longer and more, so no wider batch fits either.
            if size > max_tokens and end - start > 1:
                break
            cost = costs[start] + size + tokens_per_call
            if best_cost is None or cost <= best_cost:
                best_cost, best_start = cost, start
        assert best_cost is not None
        costs.append(best_cost)
        starts.append(best_start)
    batches, end = [], len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


def packed_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of rows whose lengths together stay within `max_tokens`, longest first.

    For rows that need no padding; a row longer than the budget stands alone.
    """
    batches: list[list[int]] = []
    sizes: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # First fit: a short row goes where there is room, and the number of batches stays small.
        for j, size in enumerate(sizes):
            if size + lengths[i] <= max_tokens:
                batches[j].append(i)
                sizes[j] += lengths[i]
                break
        else:
            batches.append([i])
            sizes.append(lengths[i])
    return batches


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

    Where a batch runs out of memory the budget shrinks and that batch alone is run anew in smaller
    ones; what other batches gave is kept.

    Raises:
        ValueError: a request does not fit into memory on its own; the message names the episode.
    """

    def formed(rows: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
        batches = form([num_tokens(row) for row in rows], budget.max_tokens)
        return [[rows[i] for i in batch] for batch in batches]

    done: dict[ScoreRequest, Result] = {}
    waiting = deque(formed(requests))
    while waiting:
        batch = waiting.popleft()
        try:
            done.update(zip(batch, run(batch), strict=True))
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ValueError(
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
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        # On the CPU, torch has no error class of its own for it.
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
