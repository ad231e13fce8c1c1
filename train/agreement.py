"""How the processes of a run come to one answer. With a single process nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def by_main(decide: Callable[[], T]) -> T:
    """What the main process decides, in every process; its error is raised in all of them."""
    answer: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            answer[0] = decide()
        except (ValueError, OSError) as error:
            answer[1] = error
    answer = broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return cast(T, answer[0])


def by_any(answer: bool) -> bool:
    """Whether any process says yes; all have to ask."""
    state = PartialState()
    if state.num_processes == 1:
        return answer
    votes = torch.tensor(int(answer), device=state.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())
