"""Two real processes of one command: `python ranks_script.py <folder>`; see test_ranks.py."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from envs.members.ledger import Ledger, Prices
from envs.types import Usage
from launch.cli import Command, main
from train import ranks, stages
from train.cache import Cache
from train.member_ledgers import accounted, over_all_processes
from train.run_folder import RunFolder

FAILING: Callable[[Any], Any]


def error_of(work: Callable[[], Any]) -> list[str]:
    try:
        work()
    except (ValueError, OSError) as error:
        return [type(error).__name__, str(error)]
    raise AssertionError("no error")


def folders(folder: Path) -> dict[str, Any]:
    """One run folder, made once, held once; what the main process is refused, all are refused."""

    def hold() -> RunFolder:
        return RunFolder.create(folder / "run", {"seed": ranks.rank()})

    with RunFolder.of_all_ranks(hold) as run:
        seen: dict[str, Any] = {"path": str(run.path), "seed": run.load_config()["seed"]}
        seen["second_start"] = error_of(lambda: RunFolder.of_all_ranks(hold))
    gone = folder / "gone"
    seen["missing"] = error_of(lambda: RunFolder.of_all_ranks(lambda: RunFolder.open(gone)))
    return seen


def kept(folder: Path) -> dict[str, Any]:
    """A stage is made by all and kept once; the next time nobody makes it."""
    made: list[str] = []

    def make(place: Path) -> None:
        made.append(str(place))
        # A collective in the middle: whoever is not there lets the others wait.
        ranks.from_main(lambda: "all are at work")
        (place / "weights").write_text("made")

    cache = Cache(folder / "cache")
    entries = [str(stages.keep(cache, "policy", {"seed": 1}, make)) for _ in range(2)]
    # The key of another rank may look otherwise, as where it is told by a file's age.
    entries.append(str(stages.keep(cache, "policy", {"seed": 1 + ranks.rank()}, make)))
    return {"entries": entries, "times_made": len(made)}


def members(folder: Path) -> dict[str, float]:
    """What the processes paid together, written by one of them."""
    ledger = Ledger(Prices(read=1e6))
    for _ in range(1 + ranks.rank()):
        ledger.add_request(is_retry=False)
        ledger.book(Usage(10, 0), Usage())
    with accounted(folder / "run", {"served": ledger}):
        pass
    return over_all_processes({"served": ledger})["served"]


def fail_on(rank: int) -> Callable[[Any], int]:
    def work(_: Any) -> int:
        if ranks.rank() == rank:
            raise ValueError(f"rank {rank}: has no books; give it some")
        time.sleep(1)
        raise RuntimeError("lost the other processes")

    return work


def play(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    seen = {"folders": folders(folder), "kept": kept(folder), "members": members(folder)}
    with (folder / f"{rank}.err").open("w") as errors:
        sys.stderr = errors
        for failing in range(2):
            globals()["FAILING"] = fail_on(failing)
            command = Command(f"{__name__}:FAILING", "fails")
            ranks.from_main(lambda: "all are ready")
            seen[f"status_{failing}"] = main([f"fail{failing}"], {f"fail{failing}": command})
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    ranks.from_main(lambda: "all have written")
    ranks.leave()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free_port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=play, args=(r, free_port, Path(sys.argv[1]))) for r in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
