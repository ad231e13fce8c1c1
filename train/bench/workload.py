"""What there is to score: episodes of random tokens, in the lengths of the published system."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rewards.types import ScoreRequest, TokenIds

# Lengths lie evenly from this share of their mean below it to as much above it.
SPREAD = 0.25


@dataclass(frozen=True)
class Shape:
    """How many episodes and attempts there are, and how many tokens their parts have on average.

    The published system has about 7,000 tokens of story so far (x) and 1,000 of plan (a) before
    chapters (y) of 2,500.
    """

    name: str
    num_episodes: int
    num_attempts: int
    prefix_tokens: int
    guidance_tokens: int
    gold_tokens: int


@dataclass(frozen=True)
class Group:
    """One episode: its attempts, and the baseline without a plan."""

    attempts: tuple[ScoreRequest, ...]
    baseline: ScoreRequest

    @property
    def prefix_ids(self) -> TokenIds:
        return self.baseline.prefix_ids


@dataclass(frozen=True)
class Workload:
    """The groups that are scored together, once."""

    shape: Shape
    groups: tuple[Group, ...]

    @property
    def attempts(self) -> list[ScoreRequest]:
        return [request for group in self.groups for request in group.attempts]

    @property
    def baselines(self) -> list[ScoreRequest]:
        return [group.baseline for group in self.groups]

    @property
    def requests(self) -> list[ScoreRequest]:
        """All of them. Baselines stand last, so that batches in this order hold rows alike."""
        return self.attempts + self.baselines

    def reduced(self, num_attempts: int) -> Workload:
        """The first episode alone, with its first attempts."""
        first = self.groups[0]
        return replace(self, groups=(replace(first, attempts=first.attempts[:num_attempts]),))

    def with_gold_doubled(self) -> Workload:
        return replace(
            self,
            groups=tuple(
                Group(tuple(map(_gold_doubled, group.attempts)), _gold_doubled(group.baseline))
                for group in self.groups
            ),
        )


def draw_workload(shape: Shape, vocab_size: int, seed: int) -> Workload:
    rng = random.Random(seed)

    def draw(num_tokens: int) -> TokenIds:
        return tuple(rng.choices(range(vocab_size), k=num_tokens))

    num_attempts = shape.num_episodes * shape.num_attempts
    prefixes = spread_lengths(shape.prefix_tokens, shape.num_episodes, rng)
    golds = spread_lengths(shape.gold_tokens, shape.num_episodes, rng)
    guidances = spread_lengths(shape.guidance_tokens, num_attempts, rng)
    groups = []
    for i in range(shape.num_episodes):
        baseline = ScoreRequest(f"episode/{i}", draw(prefixes[i]), (), draw(golds[i]))
        own = guidances[i :: shape.num_episodes]
        attempts = tuple(replace(baseline, guidance_ids=draw(length)) for length in own)
        groups.append(Group(attempts, baseline))
    return Workload(shape, tuple(groups))


def spread_lengths(mean: int, number: int, rng: random.Random) -> Sequence[int]:
    """Lengths evenly around their mean, in random order; one alone is the mean."""
    steps = range(number - 1, -number, -2)
    lengths = [round(mean * (1 + SPREAD * step / max(1, number - 1))) for step in steps]
    rng.shuffle(lengths)
    return lengths


def _gold_doubled(request: ScoreRequest) -> ScoreRequest:
    return replace(request, gold_ids=request.gold_ids * 2)
