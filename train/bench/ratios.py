"""How the contenders compare: ratios of what they took in the same repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from train.bench.measure import Result


@dataclass(frozen=True)
class Target:
    """What a ratio has to be."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


@dataclass(frozen=True)
class Ratio:
    """One ratio in every repeat."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)


def ratios(results: Sequence[Result], matmul_flops_per_s: float) -> list[Ratio]:
    """Of all contenders on one shape.

    `best_padded` is the padded way with the lower median time, `share_of_flops_ratio` the ratio of
    two times over that of their model FLOPs, `matmul_share` the share of the device's matrix rate.
    """
    by_name = {result.contender: result for result in results}
    ours, alone = by_name["ours_cold"], by_name["one_at_a_time"]
    padded = best_padded(results)
    return [
        Ratio("one_at_a_time/ours_cold", _times(alone, ours)),
        Ratio("best_padded/ours_cold", _times(padded, ours)),
        Ratio("one_at_a_time/ours_cold share_of_flops_ratio", _share_of_flops(alone, ours)),
        Ratio("best_padded/ours_cold share_of_flops_ratio", _share_of_flops(padded, ours)),
        Ratio("ours_cold/floor", _times(ours, by_name["floor"])),
        Ratio("ours_warm/floor_warm", _times(by_name["ours_warm"], by_name["floor_warm"])),
        Ratio("ours_cold matmul_share", _of_rate(ours, matmul_flops_per_s)),
    ]


def best_padded(results: Sequence[Result]) -> Result:
    padded = [r for r in results if r.contender in ("padded_batch", "chunked")]
    return min(padded, key=lambda result: median(result.seconds))


def _times(slow: Result, fast: Result) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def _share_of_flops(slow: Result, fast: Result) -> tuple[float, ...]:
    flops_ratio = slow.model_flops / fast.model_flops
    return tuple(times / flops_ratio for times in _times(slow, fast))


def _of_rate(result: Result, flops_per_s: float) -> tuple[float, ...]:
    return tuple(result.model_flops / seconds / flops_per_s for seconds in result.seconds)
