"""What the processes of one run do together: one acts for all, and what one could not do ends all.

torchrun, and anything else that starts several processes, says in the environment who is who. With
one process all of this does nothing. torch is loaded only where there are several.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from train.files import file_error

if TYPE_CHECKING:
    import torch

# How long a process that fails looks for the others before it speaks for itself.
SECONDS_TO_FIND_THE_OTHERS = 10


def num_processes() -> int:
    """As the launcher says; known before any of them joins the others."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes the run's folder and speaks to its user."""
    return rank() == 0


def join() -> torch.device:
    """Joins the group of processes, where this one has not yet; gives the device of this one."""
    import torch
    from accelerate import PartialState

    device = PartialState(cpu=not torch.cuda.is_available()).device
    assert device is not None
    return device


def from_main(work: Callable[[], str]) -> str:
    """What the main process makes of `work`, in every process; the others do not call it.

    Raises:
        ValueError, OSError: in every process, what the main process raised.
    """
    if num_processes() == 1:
        return work()
    if not is_main():
        answer = json.loads(_broadcast(""))
        if "error" in answer:
            raise (OSError if answer["is_os_error"] else ValueError)(answer["error"])
        return answer["text"]
    try:
        text = work()
    except (ValueError, OSError) as error:
        _broadcast(json.dumps({"error": _told(error), "is_os_error": isinstance(error, OSError)}))
        raise
    _broadcast(json.dumps({"text": text}))
    return text


def any_says(answer: bool) -> bool:
    """Whether any process says yes; all of them have to ask."""
    if num_processes() == 1:
        return answer
    import torch
    import torch.distributed as dist

    votes = torch.tensor(int(answer), device=join())
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def summed(values: Sequence[float]) -> list[float]:
    """Each of the values added up over all processes, all of which have to ask."""
    if num_processes() == 1 or not values:
        return list(values)
    import torch
    import torch.distributed as dist

    sums = torch.tensor(values, dtype=torch.float64, device=join())
    dist.all_reduce(sums)
    return sums.tolist()


def first_to_say(what: str) -> bool:
    """Whether this process is the first to say so, and not another one for all of them.

    The first to fail knows the cause; after it the others fail for want of it, or are stopped.
    """
    if num_processes() == 1:
        return True
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    try:
        # The store through which the processes find each other: whoever starts them, or the first
        # of them, keeps it as long as they run.
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=SECONDS_TO_FIND_THE_OTHERS),
            wait_for_workers=False,
        )
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"nextchapter/{restarts}/{what}", 1) == 1
    except (KeyError, RuntimeError):
        # It was not there yet: all have failed over what stands in the settings.
        return is_main()


def lost_another(error: BaseException) -> bool:
    """Whether the error says that another process is gone, as when its node was lost."""
    if num_processes() == 1:
        return False
    import torch.distributed as dist

    # Gloo's errors are RuntimeErrors without a class of their own; they name their source file.
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def leave() -> None:
    """Ends the group of processes that this one was in."""
    if num_processes() == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _told(error: Exception) -> str:
    """The error with the name of its file, which an operating system's error keeps apart."""
    line = file_error(error) if isinstance(error, OSError) else None
    return line or str(error)


def _broadcast(text: str) -> str:
    """The main process's text, in every process."""
    import torch
    import torch.distributed as dist

    device = join()
    content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    size = torch.tensor([len(content)], device=device)
    dist.broadcast(size, src=0)
    if not is_main():
        content = torch.empty(int(size), dtype=torch.uint8, device=device)
    dist.broadcast(content, src=0)
    return bytes(content.tolist()).decode()
