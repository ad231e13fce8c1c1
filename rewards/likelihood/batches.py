"""Which rows go through the model together, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence


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
