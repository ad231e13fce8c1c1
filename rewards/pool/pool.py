"""A pool of workers that take groups from one queue: whoever is free takes the next one."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field

from rewards.pool.worker import LostWorker, PoolWorker, RefusedWorker

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0
# A worker that has just gone is not asked again at once.
SECONDS_BEFORE_ANOTHER_TRY = 0.2


@dataclass(order=True)
class Job:
    """One group on its way; the most expensive is taken first, of equals the oldest."""

    minus_cost: int
    number: int
    message: bytes = field(compare=False)
    episode_id: str = field(compare=False)
    answer: Future[bytes] = field(compare=False, default_factory=Future)
    num_lost: int = field(compare=False, default=0)


class WorkerPool:
    """Hands every message to one worker; a message whose worker is lost goes to another.

    - A worker holds at most `calls_per_worker` messages of this pool: one that it works at and the
      next, so that it need not wait. All others wait here.
    - Each message has one answer, though a worker that was lost may have worked at it too.
    - Workers may come and go at any time: who is up takes work.
    - A message that `attempts_per_group` workers were lost over is given up: it is likely what
      they died of.
    - After `patience_s` seconds without an answer and without a worker that came up, a wait ends.
    """

    def __init__(
        self,
        workers: Sequence[PoolWorker],
        calls_per_worker: int = 2,
        attempts_per_group: int = 5,
        patience_s: float = 1800.0,
    ) -> None:
        self.workers = tuple(workers)
        self.attempts_per_group = attempts_per_group
        self.patience_s = patience_s
        self.num_answers = 0
        self.num_lost = 0
        self._queue: list[Job] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._closed = False
        self._last_sign = time.monotonic()
        self._refused: dict[str, RefusedWorker] = {}
        for _ in range(calls_per_worker):
            for worker in self.workers:
                threading.Thread(
                    target=self._serve, args=(worker,), name=f"pool {worker.name}", daemon=True
                ).start()

    def submit(self, message: bytes, cost: int, episode_id: str) -> Future[bytes]:
        """The answer to come; `cost` is in any unit, and the costliest message is sent first."""
        job = Job(-cost, next(self._numbers), message, episode_id)
        with self._changed:
            self._put(job)
        return job.answer

    def wait(self, answers: Collection[Future[bytes]]) -> None:
        """Returns when all are there.

        Raises:
            LostWorker: one of them was given up, or no worker shows a sign of life any more.
            RefusedWorker: no worker will ever score.
        """
        waiting, since = set(answers), time.monotonic()
        while waiting:
            done, waiting = wait(waiting, SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION)
            for answer in done:
                answer.result()
            silent_s = time.monotonic() - max(since, self._last_sign)
            if waiting and silent_s > self.patience_s:
                raise LostWorker(
                    f"scorer: none of the {len(self.workers)} workers of the pool has answered or "
                    f"come up for {silent_s:.0f} s; look at `ray status` for whether the cluster "
                    "has room for them, and in their logs, then resume the run"
                )

    def close(self) -> None:
        """Ends the pool; answers that are still to come are cancelled."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                job.answer.cancel()
            self._queue.clear()
            self._changed.notify_all()

    def _serve(self, worker: PoolWorker) -> None:
        while not self._is_over(worker):
            try:
                worker.wait_until_up()
            except LostWorker:
                time.sleep(SECONDS_BEFORE_ANOTHER_TRY)
                continue
            except RefusedWorker as error:
                self._refuse(worker, error)
                return
            self._last_sign = time.monotonic()
            while (job := self._take(worker)) is not None and self._do(worker, job):
                pass

    def _do(self, worker: PoolWorker, job: Job) -> bool:
        """Whether the worker is still there."""
        try:
            answer = worker.score(job.message)
        except LostWorker as error:
            self._give_back(job, worker, error)
            return False
        except Exception as error:
            # A defect; who waits for the answer is to know.
            job.answer.set_exception(error)
            return True
        self._last_sign = time.monotonic()
        with self._changed:
            self.num_answers += 1
        job.answer.set_result(answer)
        return True

    def _is_over(self, worker: PoolWorker) -> bool:
        return self._closed or worker.name in self._refused

    def _take(self, worker: PoolWorker) -> Job | None:
        """The next message; None when the pool is closed, or the worker is refused."""
        with self._changed:
            while not self._queue and not self._is_over(worker):
                self._changed.wait()
            return None if self._is_over(worker) else heapq.heappop(self._queue)

    def _put(self, job: Job) -> None:
        if self._closed:
            job.answer.cancel()
        elif len(self._refused) == len(self.workers):
            job.answer.set_exception(next(iter(self._refused.values())))
        else:
            heapq.heappush(self._queue, job)
            self._changed.notify()

    def _give_back(self, job: Job, worker: PoolWorker, error: LostWorker) -> None:
        job.num_lost += 1
        logger.warning("scorer: lost %s (%s); its group goes to another", worker.name, error)
        with self._changed:
            self.num_lost += 1
            if job.num_lost < self.attempts_per_group:
                self._put(job)
                return
        job.answer.set_exception(
            LostWorker(
                f"episode {job.episode_id}: {job.num_lost} workers in a row were lost over it "
                f"(the last: {error}); if their memory is too short, lower "
                "scorer.max_tokens_per_batch, then resume the run"
            )
        )

    def _refuse(self, worker: PoolWorker, error: RefusedWorker) -> None:
        with self._changed:
            self._refused[worker.name] = error
            # Its other threads wait for work that they are not to take.
            self._changed.notify_all()
            logger.warning("scorer: %s", error)
            if len(self._refused) == len(self.workers):
                for job in self._queue:
                    job.answer.set_exception(error)
                self._queue.clear()
