"""Times contenders on the same work, in turns, and holds them to the same results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from rewards.likelihood.rounding import token_differences
from rewards.types import Likelihood
from train.bench.contenders import Contender
from train.bench.device import synchronize
from train.bench.memory import PeakMemory
from train.bench.workload import Shape, Workload


@dataclass
class Result:
    """What one contender took on one shape, repeat by repeat."""

    shape: Shape
    contender: str
    model_flops: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    """The largest of all repeats."""


def in_turns(
    contenders: Sequence[Contender],
    workloads: Sequence[Workload],
    repeats: int,
    agreement: Agreement,
    meter: PeakMemory,
    device: torch.device,
    advance: Callable[..., None],
) -> list[Result]:
    """One result for each shape and contender.

    In every repeat each contender scores each workload once, and the order moves on by one from
    repeat to repeat, so that what else the machine does hits all alike.

    Raises:
        ValueError: two contenders do not agree.
    """
    results = {
        (w.shape.name, c.name): Result(w.shape, c.name, c.model_flops(w))
        for w in workloads
        for c in contenders
    }
    for repeat in range(repeats):
        first = repeat % len(contenders)
        for workload in workloads:
            found = {}
            for contender in [*contenders[first:], *contenders[:first]]:
                advance(0, f"{workload.shape.name} {contender.name}")
                contender.prepare(workload)
                result = results[workload.shape.name, contender.name]
                found[contender.name] = _once(contender, workload, result, meter, device)
                advance(1)
            agreement.check(found)
    return list(results.values())


def _once(
    contender: Contender,
    workload: Workload,
    result: Result,
    meter: PeakMemory,
    device: torch.device,
) -> list[Likelihood] | None:
    """Scores once and adds what it took to the result."""
    meter.start()
    synchronize(device)
    started = time.perf_counter()
    found = contender.score(workload)
    synchronize(device)
    result.seconds.append(time.perf_counter() - started)
    peaks = [p for p in (result.peak_bytes, meter.peak_bytes()) if p is not None]
    result.peak_bytes = max(peaks, default=None)
    return found


@dataclass
class Agreement:
    """Refuses results of contenders that are not, token by token, the same.

    `largest` is the largest difference on a token that was found, in nats.
    """

    tolerance_nats: float
    largest: float = 0.0

    def check(self, found: dict[str, list[Likelihood] | None]) -> None:
        """
        Raises:
            ValueError: two contenders are further apart on a token than they may be.
        """
        right = {name: results for name, results in found.items() if results is not None}
        (reference, expected), *others = right.items()
        for name, results in others:
            apart = [abs(nats) for nats in token_differences(results, expected)]
            # Asked this way round, a difference that is not a number is none that is small.
            if not all(nats <= self.tolerance_nats for nats in apart):
                raise ValueError(
                    f"{name} and {reference} differ by up to {max(apart):.2g} nats a token, more "
                    f"than the {self.tolerance_nats:g} of rounding; times of wrong results mean "
                    "nothing, so none are reported. One of them has a defect on this machine."
                )
            self.largest = max(self.largest, *apart)
