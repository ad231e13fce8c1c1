"""Workers of a pool as Ray actors: named, so that several processes share them, and restarted."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from rewards.pool.cluster import NAMESPACE
from rewards.pool.serving import Recipe, ScorerServer
from rewards.pool.worker import LostWorker, RefusedWorker

FOREVER = -1


class Agreement:
    """What all workers of a pool have to tell of themselves: what the first of them told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._about: dict[str, Any] | None = None
        self._refused: RefusedWorker | None = None

    def check(self, name: str, told: Mapping[str, Any]) -> None:
        """Raises:
        RefusedWorker: the worker cannot load its generator, or has another one than the first.
        """
        try:
            if "error" in told:
                raise RefusedWorker(f"{name} cannot score: {told['error']}")
            with self._lock:
                first = self._about = self._about or dict(told["about"])
                differ = [k for k, v in first.items() if told["about"].get(k) != v]
            if differ:
                raise RefusedWorker(
                    f"{name} differs from the first worker in {', '.join(differ)}, so their "
                    "numbers would not go together; give all hosts the same weights and libraries"
                )
        except RefusedWorker as error:
            self._refused = error
            raise
        finally:
            self._told.set()

    def about(self, patience_s: float) -> dict[str, Any]:
        """What the first worker told, once there is one.

        Raises:
            LostWorker: none came up in that time.
            RefusedWorker: the first one cannot score.
        """
        if not self._told.wait(patience_s):
            raise LostWorker(
                f"scorer: no worker came up within {patience_s:.0f} s; look at `ray status` for "
                "whether the cluster has room for scorer.pool.cpus_per_worker and gpus_per_worker"
            )
        if self._about is None:
            assert self._refused is not None
            raise self._refused
        return self._about


class RayWorker:
    """One actor. Ray starts it where there is room, and again, there or elsewhere, when it dies."""

    def __init__(self, ray: Any, actor: Any, name: str, agreement: Agreement) -> None:
        self.ray = ray
        self.actor = actor
        self.agreement = agreement
        self._name = name
        # The start of the actor that was agreed with; until then there is none.
        self._start = ""

    @property
    def name(self) -> str:
        return self._name

    def wait_until_up(self) -> None:
        # Asked again and again while there is no room for the actor, or it starts anew.
        hello = self.actor.hello.options(max_task_retries=FOREVER)
        told = json.loads(self._get(hello.remote()))
        self.agreement.check(self._name, told)
        self._start = told["start"]

    def score(self, message: bytes) -> bytes:
        # Once: whoever takes the message next is chosen by the pool.
        return self._get(self.actor.score.remote(message, self._start))

    def _get(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            raise LostWorker(type(error).__name__) from error


def start_workers(
    ray: Any,
    recipe: Recipe,
    pool_name: str,
    num_workers: int,
    cpus_per_worker: float,
    gpus_per_worker: float,
    first: int = 0,
) -> tuple[list[RayWorker], Agreement]:
    """The workers of the pool of that name, which every process that asks for it shares.

    So many are asked for; those that the cluster has no room for now come up when it has. They are
    listed from the `first` on: processes that begin with different ones spread what they send.
    """
    settings = json.dumps(recipe.settings, sort_keys=True)
    agreement = Agreement()
    actor = ray.remote(ScorerServer)
    workers = []
    for number in range(num_workers):
        name = f"{pool_name}-{number}"
        handle = actor.options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            num_cpus=cpus_per_worker,
            num_gpus=gpus_per_worker,
            max_restarts=FOREVER,
            max_task_retries=0,
        ).remote(recipe.target, settings)
        workers.append(RayWorker(ray, handle, f"worker {number}", agreement))
    return workers[first:] + workers[:first], agreement
