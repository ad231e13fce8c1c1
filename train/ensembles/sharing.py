"""Work on many items that every process needs whole: each does a part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from rewards.ranks.exchange import Exchange
from train import ranks

Item = TypeVar("Item")


def in_shares(items: Sequence[Item], work: Callable[[Sequence[Item]], Tensor]) -> Tensor:
    """What `work` makes of the items, a row of CPU memory for each: all rows, in every process.

    The work on an item must not depend on the others. With several processes each has to call it,
    and all of them get the same bytes, whatever each of them would have rounded to; where there are
    more processes than items, each does all of the work.
    """
    count = ranks.num_processes()
    if count == 1 or len(items) < count:
        return work(items)
    ranks.join()
    exchange = Exchange()
    own = work(items[exchange.rank :: count])
    padded = own.new_zeros(-(-len(items) // count), *own.shape[1:])
    padded[: len(own)] = own
    found = own.new_empty(len(items), *own.shape[1:])
    for rank, part in enumerate(exchange.broadcast_all(padded)):
        found[rank::count] = part[: len(range(rank, len(items), count))]
    return found
