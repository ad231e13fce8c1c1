"""The settings of a scoring pool, `scorer=ray`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class PoolConfig:
    """Where a pool's workers are, how many, and what each of them takes; `docs/pool.md`."""

    address: str | None = None
    """`host:port` of a running Ray cluster; empty to start one on this machine, on loopback."""
    workers: Annotated[int, Field(gt=0)] = 1
    """Workers to ask the cluster for. Those that it has no room for join when it has."""
    cpus_per_worker: Annotated[float, Field(ge=0)] = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that Ray keeps for a worker; with 0 it scores on CPUs."""
    groups_per_worker: Annotated[int, Field(gt=0)] = 2
    """Groups that a worker holds of each process at most, the one that it works at included."""
    attempts_per_group: Annotated[int, Field(gt=0)] = 5
    """Workers that may be lost over one group before the run ends."""
    patience_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds without an answer and without a worker that comes up, after which the run ends."""
