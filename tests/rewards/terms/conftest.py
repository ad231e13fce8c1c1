"""Makes what a term sees from a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rewards.types import Measured


@pytest.fixture(scope="session")
def measured() -> Callable[..., Measured]:
    """A measured rollout from its tokens' costs in nats, with the plan and without."""
    from envs.types import Chapter, Episode, Guidance, PlanStatus, Reply, Rollout, StoryContext
    from rewards.improvement import improvement_percent
    from rewards.types import Likelihood, Measured, Pair

    def pair(costs: Sequence[float], plain: Sequence[float]) -> Pair:
        return Pair(Likelihood(sum(costs), tuple(costs)), Likelihood(sum(plain), tuple(plain)))

    def make(
        costs: Sequence[float],
        plain: Sequence[float],
        num_plan_tokens: int = 10,
        others: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
        answer: str = "",
        status: PlanStatus = PlanStatus.COMPLETE,
    ) -> Measured:
        episode = Episode("book/1", StoryContext(()), Chapter("", "Ann pays."))
        gold = pair(costs, plain)
        return Measured(
            Rollout(episode, (), Reply(answer), status, Guidance(answer)),
            gold,
            improvement_percent(gold.with_plan, gold.baseline),
            num_plan_tokens,
            tuple(pair(*other) for other in others),
        )

    return make
