"""A likelihood scorer whose work is done by a pool, whole groups at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from rewards.pool.messages import FAST, pack_group, unpack_answer
from rewards.pool.pool import WorkerPool
from rewards.types import Likelihood, ScoreRequest, TokenIds


@dataclass(frozen=True)
class Started:
    """Requests of one prefix that a worker scores together, and its answer to come."""

    requests: tuple[ScoreRequest, ...]
    answer: Future[bytes]


class PoolScorer:
    """Scores by a pool of workers; the numbers are those that a worker gives for a group alone.

    Requests with one prefix go to one worker together, equal ones once. What batch a group is
    scored in so depends neither on the other groups nor on the number of workers.

    `start` begins to score in the background. A later `score` takes up what was started, so that
    each request is scored once; `score` alone starts what is missing and waits for it, for
    `seconds_waited` in all.
    """

    def __init__(self, pool: WorkerPool, who: int = FAST) -> None:
        self.pool = pool
        self.who = who
        self.seconds_waited = 0.0
        self._started: dict[TokenIds, list[Started]] = defaultdict(list)

    def start(self, requests: Sequence[ScoreRequest]) -> None:
        """Begins to score what is not being scored already.

        Raises:
            ValueError: a request cannot travel; the message names the episode.
        """
        groups: dict[TokenIds, list[ScoreRequest]] = defaultdict(list)
        for request in dict.fromkeys(requests):
            running = self._started.get(request.prefix_ids, ())
            if not any(request in started.requests for started in running):
                groups[request.prefix_ids].append(request)
        for prefix_ids, group in groups.items():
            message = pack_group(group, self.who)
            # In tokens that a worker reads, the prefix once.
            cost = len(prefix_ids) + sum(r.num_tokens - len(prefix_ids) for r in group)
            answer = self.pool.submit(message, cost, group[0].episode_id)
            self._started[prefix_ids].append(Started(tuple(group), answer))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError, OSError, RuntimeError: what a worker raised, by its family, or what is wrong
                with a request.
            LostWorker: the pool gave a group up, or has no workers any more.
        """
        self.start(requests)
        wanted = set(requests)
        taken = [
            started
            for prefix_ids in dict.fromkeys(r.prefix_ids for r in requests)
            for started in self._started[prefix_ids]
            if not wanted.isdisjoint(started.requests)
        ]
        began = time.perf_counter()
        try:
            self.pool.wait([started.answer for started in taken])
            self.seconds_waited += time.perf_counter() - began
            found = {
                request: likelihood
                for started in taken
                for request, likelihood in zip(
                    started.requests,
                    unpack_answer(started.answer.result(), started.requests),
                    strict=True,
                )
            }
        finally:
            self._forget(taken)
        return [found[request] for request in requests]

    def _forget(self, taken: Sequence[Started]) -> None:
        """After a failure as well: what is asked again is scored again."""
        gone = {id(started) for started in taken}
        for prefix_ids in {started.requests[0].prefix_ids for started in taken}:
            left = [s for s in self._started[prefix_ids] if id(s) not in gone]
            if left:
                self._started[prefix_ids] = left
            else:
                del self._started[prefix_ids]
