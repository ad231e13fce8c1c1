"""Finding a rule's numbers: by the exact gradient of the likelihood, or without a gradient.

The writers are frozen, so their hidden states before each gold token are computed once; a pass over
the chapters is then one product with each head. The states lie in CPU memory: writers × tokens ×
hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.fusion import LogitFusion
from rewards.types import Combine, StateCombine
from train.ensembles.fusion_rules import FusionRule, Numbers

# K writers, N gold tokens, V vocabulary.

LogitsOf = Callable[[Sequence[Tensor]], list[Tensor]]
"""Every writer's logits [N, V] of its states [N, H]."""

MOST_SEARCHED_NUMBERS = 16
SMALLEST_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class HeldChapter:
    """A gold chapter as the writers see it: their states before each token, and the tokens.

    `context_nll_K` is what the context costs each writer, in nats a token, where the rule asks.
    """

    states: tuple[Tensor, ...]
    gold_N: Tensor
    context_nll_K: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """The numbers that did best on validation, and what every trial cost there.

    In nats a token, penalties included; the first trial is the start.
    """

    numbers: dict[str, Tensor]
    validation_nll: tuple[float, ...]


@dataclass(frozen=True)
class FusionLoss:
    """What a rule's numbers cost a chapter, in nats a token, some positions at a time."""

    rule: FusionRule
    logits_of: LogitsOf
    positions_per_chunk: int = 256

    @torch.no_grad()
    def mean(self, numbers: Numbers, chapters: Sequence[HeldChapter]) -> float:
        """Over chapters, each of which counts alike, as they do in the improvement."""
        costs = [
            part.item()
            for chapter in chapters
            for part in self.parts(self.rule.combine, numbers, chapter)
        ]
        return sum(costs) / len(chapters)

    def backward(self, numbers: Numbers, chapter: HeldChapter, weight: float) -> None:
        """Adds the gradient of `weight` times the chapter's cost."""
        for part in self.parts(self.rule.learned_by, numbers, chapter):
            (weight * part).backward()

    def parts(
        self,
        combine_of: Callable[[Numbers, Tensor | None], Combine | StateCombine],
        numbers: Numbers,
        chapter: HeldChapter,
    ) -> Iterator[Tensor]:
        """The chapter's cost as a sum of parts, each with a graph of its own."""
        num_tokens = len(chapter.gold_N)
        for first in range(0, num_tokens, self.positions_per_chunk):
            chunk = slice(first, first + self.positions_per_chunk)
            states = [own[chunk] for own in chapter.states]
            gold_N1 = chapter.gold_N[chunk, None]
            logits_NV = self.logits_of(states)
            combine = combine_of(numbers, chapter.context_nll_K)
            if isinstance(combine, StateCombine):
                combine = combine.at(states[0].to(logits_NV[0].device))
            log_p_NV = combine(logits_NV).log_softmax(-1)
            cost = -log_p_NV.gather(1, gold_N1.to(log_p_NV.device)).sum()
            penalty = self.rule.penalty(numbers, states[0])
            if penalty is not None:
                cost = cost + len(gold_N1) * penalty
            yield cost / num_tokens


def learn(
    env: LogitFusion,
    loss: FusionLoss,
    start: Mapping[str, Tensor],
    train: Sequence[HeldChapter],
    validation: Sequence[HeldChapter],
    seed: int,
) -> Found:
    """Follows the gradient of the training chapters' likelihood by Adam.

    Keeps what did best on validation, the start among it, and ends after `patience` epochs without
    a gain there.
    """
    numbers = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(numbers.values(), lr=env.learning_rate)
    order, shuffled = list(train), random.Random(seed)
    costs = [loss.mean(numbers, validation)]
    best = copied(numbers)
    for _ in range(env.epochs):
        shuffled.shuffle(order)
        for first in range(0, len(order), env.batch_size):
            batch = order[first : first + env.batch_size]
            optimizer.zero_grad()
            for chapter in batch:
                loss.backward(numbers, chapter, 1 / len(batch))
            optimizer.step()
        cost = loss.mean(numbers, validation)
        if cost < min(costs):
            best = copied(numbers)
        costs.append(cost)
        if min(costs[-env.patience :]) > min(costs):
            break
    return Found(best, tuple(costs))


def search(
    loss: FusionLoss,
    start: Mapping[str, Tensor],
    validation: Sequence[HeldChapter],
    evaluations: int,
    first_step: float = 0.5,
) -> Found:
    """Compass search: one number at a time a step up or down; where none helps, half the step.

    Deterministic, and with one number a grid that refines itself. It stops at the budget of
    evaluations, or at steps of a thousandth. Source: Kolda, Lewis & Torczon 2003.

    Raises:
        ValueError: the rule has too many numbers for it.
    """
    count = sum(value.numel() for value in start.values())
    if count > MOST_SEARCHED_NUMBERS:
        raise ValueError(
            f"env.weights: a search goes over {MOST_SEARCHED_NUMBERS} numbers at most, and this "
            f"rule has {count}; set env.weights=learned."
        )
    best, costs, step = copied(start), [loss.mean(start, validation)], first_step
    while step >= SMALLEST_STEP and len(costs) < evaluations:
        before = min(costs)
        for name, place, sign in _directions(best):
            if len(costs) == evaluations:
                break
            tried = copied(best)
            tried[name].view(-1)[place] += sign * step
            cost = loss.mean(tried, validation)
            if cost < min(costs):
                best = tried
            costs.append(cost)
        if min(costs) == before:
            step /= 2
    return Found(best, tuple(costs))


def copied(numbers: Numbers) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in numbers.items()}


def _directions(numbers: Numbers) -> list[tuple[str, int, int]]:
    """Every number, up and down."""
    return [
        (name, place, sign)
        for name, value in numbers.items()
        for place in range(value.numel())
        for sign in (1, -1)
    ]
