"""The pool without Ray: whoever is free takes the next group, and what is lost is done again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from rewards.pool.messages import (
    FAST,
    pack_answer,
    pack_failure,
    pack_group,
    unpack_answer,
    unpack_group,
)
from rewards.pool.pool import WorkerPool
from rewards.pool.scorer import PoolScorer
from rewards.pool.serving import ScorerServer, Served
from rewards.pool.worker import LostWorker, PoolWorker, RefusedWorker
from rewards.types import Likelihood, ScoreRequest

Pools = Callable[..., WorkerPool]


def cost_of(request: ScoreRequest) -> Likelihood:
    costs = tuple(0.5 + len(request.guidance_ids) for _ in request.gold_ids)
    return Likelihood(sum(costs), costs)


class Worker:
    """Answers as told: `lost` calls fail first, and `refuses` says that it never will."""

    def __init__(self, name: str, lost: int = 0, refuses: bool = False) -> None:
        self._name = name
        self.lost = lost
        self.refuses = refuses
        self.asked: list[list[ScoreRequest]] = []
        self.most_at_once = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._at_once = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def wait_until_up(self) -> None:
        if self.refuses:
            raise RefusedWorker(f"{self.name} cannot score: it has no generator")

    def score(self, message: bytes) -> bytes:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self.goes_on.wait()
        with self._lock:
            self._at_once -= 1
            if self.lost:
                self.lost -= 1
                raise LostWorker("killed")
        who, requests = unpack_group(message)
        assert who == FAST
        self.asked.append(requests)
        if requests[0].episode_id == "book/bad":
            return pack_failure(ValueError("episode book/bad: the gold chapter is empty."))
        return pack_answer([cost_of(request) for request in requests])


class Changed(Worker):
    """Dies over its first call, and comes back with other weights."""

    def score(self, message: bytes) -> bytes:
        self.refuses = True
        return super().score(message)


class Late(Worker):
    """Comes up when it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.comes_up = threading.Event()

    def wait_until_up(self) -> None:
        self.comes_up.wait()


@pytest.fixture
def pools() -> Iterator[Pools]:
    """Makes pools, and ends them after the test."""
    made = []

    def make(*workers: PoolWorker, **settings: float) -> WorkerPool:
        made.append(WorkerPool(workers, **settings))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def group(number: int, plans: int = 2, prefix: int = 5) -> list[ScoreRequest]:
    context = tuple(range(number, number + prefix))
    return [
        ScoreRequest(f"book/{number}", context, (), (1, 2), by_itself=True),
        *(ScoreRequest(f"book/{number}", context, (3,) * (n + 1), (1, 2)) for n in range(plans)),
    ]


def wait_until(is_reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not is_reached():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def assert_scored(found: Sequence[Likelihood], requests: Sequence[ScoreRequest]) -> None:
    assert list(found) == [cost_of(request) for request in requests]


def test_whole_groups_travel_and_answers_come_in_the_order_of_the_requests(pools: Pools) -> None:
    workers = [Worker("a"), Worker("b")]
    groups = [group(n) for n in range(6)]
    # One request of each group after the other, and one of them twice.
    requests = [r for alike in zip(*groups, strict=True) for r in alike] + groups[2][1:2]
    assert_scored(PoolScorer(pools(*workers)).score(requests), requests)
    asked = sorted((a for w in workers for a in w.asked), key=lambda a: a[0].episode_id)
    assert asked == groups
    assert all(request.by_itself == (not request.guidance_ids) for a in asked for request in a)


def test_a_group_whose_worker_is_lost_is_scored_by_another_and_counts_once(pools: Pools) -> None:
    shaky, steady = Worker("shaky", lost=3), Worker("steady")
    pool = pools(shaky, steady)
    requests = [r for n in range(8) for r in group(n)]
    assert_scored(PoolScorer(pool).score(requests), requests)
    assert pool.num_answers == 8


def test_a_group_that_workers_die_of_is_named(pools: Pools) -> None:
    pool = pools(Worker("a", lost=99), attempts_per_group=3)
    with pytest.raises(LostWorker, match="episode book/4: 3 workers in a row were lost over it"):
        PoolScorer(pool).score(group(4))


def test_a_worker_holds_two_groups_at_most_and_the_rest_waits(pools: Pools) -> None:
    worker = Worker("a")
    worker.goes_on.clear()
    scorer = PoolScorer(pools(worker, calls_per_worker=2))
    requests = [r for n in range(7) for r in group(n)]
    scorer.start(requests)
    wait_until(lambda: worker.most_at_once == 2)
    worker.goes_on.set()
    assert_scored(scorer.score(requests), requests)
    assert worker.most_at_once == 2


def test_the_costliest_group_is_sent_first(pools: Pools) -> None:
    worker = Worker("a")
    worker.goes_on.clear()
    scorer = PoolScorer(pools(worker, calls_per_worker=1))
    scorer.start(group(50))
    wait_until(lambda: worker.most_at_once == 1)
    requests = [r for n in (1, 3, 2) for r in group(n, prefix=5 * n)]
    scorer.start(requests)
    worker.goes_on.set()
    scorer.score(requests)
    assert [a[0].episode_id for a in worker.asked] == ["book/50", "book/3", "book/2", "book/1"]


def test_what_was_started_is_taken_up_and_only_the_rest_is_sent(pools: Pools) -> None:
    worker = Worker("a")
    scorer = PoolScorer(pools(worker))
    first, second = group(1), group(2)
    scorer.start(first[:2])
    scorer.start(first[:2])
    assert_scored(scorer.score(first + second), first + second)
    assert sorted(map(len, worker.asked)) == [1, 2, 3]
    # What was taken is forgotten: asked again, it is scored again.
    scorer.score(second)
    assert sorted(map(len, worker.asked)) == [1, 2, 3, 3]


def test_an_error_of_a_scorer_is_raised_by_its_family_and_the_pool_goes_on(pools: Pools) -> None:
    scorer = PoolScorer(pools(Worker("a")))
    bad = [ScoreRequest("book/bad", (1, 2), (), (3,))]
    with pytest.raises(ValueError, match="episode book/bad: the gold chapter is empty"):
        scorer.score(bad)
    assert_scored(scorer.score(group(1)), group(1))


def test_where_no_worker_can_score_the_reason_is_said_at_once(pools: Pools) -> None:
    scorer = PoolScorer(pools(Worker("a", refuses=True), Worker("b", refuses=True)))
    with pytest.raises(RefusedWorker, match="cannot score: it has no generator"):
        scorer.score(group(1))


def test_a_worker_that_cannot_score_does_not_keep_others_from_it(pools: Pools) -> None:
    scorer = PoolScorer(pools(Worker("a", refuses=True), Worker("b")))
    assert_scored(scorer.score(group(1)), group(1))


def test_a_worker_that_comes_back_with_other_weights_takes_nothing_more(pools: Pools) -> None:
    changed, late = Changed("changed", lost=1), Late("late")
    scorer = PoolScorer(pools(changed, late))
    scorer.start(group(1))
    wait_until(lambda: "pool changed" not in {thread.name for thread in threading.enumerate()})
    late.comes_up.set()
    requests = [r for n in range(1, 5) for r in group(n)]
    assert_scored(scorer.score(requests), requests)
    assert changed.asked == [] and len(late.asked) == 4


def counting(settings: Mapping[str, Any]) -> Served:
    return Served(Counting(), Counting(), {"key": "counting"})


def without_room(settings: Mapping[str, Any]) -> Served:
    raise RuntimeError("CUDA out of memory")


class Counting:
    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        return [cost_of(request) for request in requests]


def test_a_process_that_was_started_anew_scores_only_for_who_has_heard_what_it_loads() -> None:
    message = pack_group(group(1), FAST)
    before, after = (ScorerServer(f"{__name__}:counting", "{}") for _ in range(2))
    start = json.loads(before.hello())["start"]
    assert unpack_answer(before.score(message, start), group(1)) == [cost_of(r) for r in group(1)]
    for known in ("", start):
        with pytest.raises(LostWorker, match="was started anew"):
            after.score(message, known)


def test_a_device_without_room_is_said_as_the_reason() -> None:
    told = json.loads(ScorerServer(f"{__name__}:without_room", "{}").hello())
    assert told == {"error": "RuntimeError: CUDA out of memory"}


def test_a_pool_without_a_sign_of_life_ends_the_wait(pools: Pools) -> None:
    silent = Worker("a")
    silent.goes_on.clear()
    with pytest.raises(LostWorker, match="none of the 1 workers of the pool has answered"):
        PoolScorer(pools(silent, patience_s=0.2)).score(group(1))
    silent.goes_on.set()


def test_a_request_that_cannot_travel_is_refused_before_it_does() -> None:
    request = ScoreRequest("book/9", (1 << 40,), (), (3,))
    with pytest.raises(ValueError, match="episode book/9: a token id is"):
        pack_group([request], FAST)
