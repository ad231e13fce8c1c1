"""What runs in a worker: a scorer made from an import path and plain settings, asked by bytes."""

from __future__ import annotations

import importlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.pool.messages import ORACLE, pack_answer, pack_failure, unpack_group
from rewards.pool.worker import LostWorker
from rewards.types import LikelihoodScorer

# A worker is a process for itself, whatever started its host.
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


@dataclass(frozen=True)
class Served:
    """What a worker scores with, and what it tells of it: the generator's key, dtype, device.

    `oracle` is the dense scorer that the other is measured against. Two workers of one pool tell
    the same, or their numbers would not go together.
    """

    scorer: LikelihoodScorer
    oracle: LikelihoodScorer
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How a worker comes by its scorer: `target` is `module:function`, which is called with
    `settings`, plain as JSON has them, and gives a `Served`."""

    target: str
    settings: Mapping[str, Any]


class ScorerServer:
    """Answers messages with messages. It loads nothing before it is asked how it is."""

    def __init__(self, target: str, settings: str) -> None:
        for name in LAUNCHER_VARIABLES:
            os.environ.pop(name, None)
        self.target = target
        self.settings = settings
        # Tells this start of the process from an earlier one, which may have had other weights.
        self.start = uuid.uuid4().hex
        self._served: Served | None = None

    def hello(self) -> str:
        """JSON: what it has loaded, or the reason for which it cannot."""
        try:
            about = dict(self._load().about)
            return json.dumps({"about": about, "pid": os.getpid(), "start": self.start})
        except Exception as error:
            # Whatever it is, also a device without room: asked again it would happen again.
            return json.dumps({"error": f"{type(error).__name__}: {error}"})

    def score(self, message: bytes, start: str) -> bytes:
        """The likelihoods of a group, or the error that the scorer raised on it.

        Raises:
            LostWorker: who asks knows another `start`, and has not heard what this one loads.
        """
        if start != self.start:
            raise LostWorker("was started anew")
        try:
            served = self._load()
            who, requests = unpack_group(message)
            scorer = served.oracle if who == ORACLE else served.scorer
            return pack_answer(scorer.score(requests))
        except Exception as error:
            # Whatever it is, who asked waits for an answer, and knows what to do about it.
            return pack_failure(error)

    def _load(self) -> Served:
        if self._served is None:
            module, _, function = self.target.partition(":")
            make = getattr(importlib.import_module(module), function)
            self._served = served = make(json.loads(self.settings))
            return served
        return self._served
