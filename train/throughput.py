"""How fast a run goes and where its time goes: tokens a second, MFU, memory, cost of each step."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

GB = 10**9
# Dense bfloat16 peaks in 10^12 operations a second, of the makers' data sheets, by a part of the
# name that torch gives.
PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "B200": 2250}
# Per weight and token: 6 to learn (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) and 2 to
# sample. Attention, and what activation checkpoints do again, are left out: it is a lower bound.
FLOPS_PER_WEIGHT = 6 + 2
PARTS = ("rollout", "waiting", "scoring", "update", "outside")
"""Where the time of a step goes, logged as `time/<part>_s`: sampling, waiting for a pool or for
other processes, the rest of the reward, learning, and, outside of steps, probes and checkpoints."""


class Clock:
    """Divides the time of a process: what ends in scoring was sampling, all else is learning.

    `rollout` is sampling and what the trainer does with answers before they are scored, such as
    the reference's log-probabilities; `waiting` is the part of scoring in which this process waited
    for a pool or for other processes.
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def begin(self) -> None:
        """A step begins; what passed since the last one ended was outside of steps."""
        self._spent["outside"] += self._lap()

    def learned(self) -> None:
        """What has passed since scoring was learning."""
        self._spent["update"] += self._lap()

    @contextmanager
    def scoring(self, scorer: object) -> Iterator[None]:
        self._spent["rollout"] += self._lap()
        waited = getattr(scorer, "seconds_waited", 0.0)
        try:
            yield
        finally:
            waited = getattr(scorer, "seconds_waited", 0.0) - waited
            self._spent["waiting"] += waited
            self._spent["scoring"] += self._lap() - waited

    def take(self) -> dict[str, float]:
        """Seconds by part since they were last taken."""
        taken = dict(self._spent)
        self._spent = dict.fromkeys(PARTS, 0.0)
        return taken

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        return passed


CLOCK = Clock()
"""Of this process, which trains one policy at a time."""


class Throughput(TrainerCallback):
    """Measures each optimizer step; `take` gives what the log of the step is to say.

    Times are means over processes, memory is the peak of each. `peak_tflops` of one GPU and
    `price_per_gpu_hour` are None where they are not known, and then nothing is made of them.
    """

    def __init__(
        self,
        num_gpus: int,
        peak_tflops: float | None = None,
        price_per_gpu_hour: float | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self.num_gpus = num_gpus
        self.peak_tflops = known_peak_tflops() if peak_tflops is None else peak_tflops
        self.price_per_gpu_hour = price_per_gpu_hour
        self.clock = clock
        self._measured: dict[str, float] = {}
        self._num_weights = 0
        self._tokens: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        # An actor and a critic may be one module.
        model = getattr(given["model"], "policy", given["model"])
        # Under ZeRO-3 a process holds a part of each weight, and DeepSpeed knows how many it has.
        self._num_weights = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
        # What came before the first step is no part of the training.
        self.clock.begin()
        self.clock.take()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clock.begin()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clock.learned()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clock.learned()
        mine = {**self.clock.take(), "memory": memory_bytes() / GB}
        everyone = gather_object([mine])
        times = {
            f"time/{name}_s": sum(one[name] for one in everyone) / len(everyone)
            for name in mine
            if name != "memory"
        }
        self._measured = {
            **times,
            "time/step_s": sum(times.values()) - times["time/outside_s"],
            **{f"memory/rank_{rank}_gb": one["memory"] for rank, one in enumerate(everyone)},
        }

    def take(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """What was measured of the last step; `logs` is what the trainer logs of it."""
        found, self._measured = self._measured, {}
        step_s = found.get("time/step_s")
        if not step_s:
            return found
        if self.price_per_gpu_hour is not None:
            found["cost/step"] = self.price_per_gpu_hour * self.num_gpus * step_s / 3600
        tokens, before = logs.get("num_tokens"), self._tokens
        self._tokens = tokens
        # The trainer counts from the start of the run, and so does not tell of the first step here.
        if tokens is not None and before is not None:
            found |= rates(
                tokens - before, step_s, self._num_weights, self.num_gpus, self.peak_tflops
            )
        return found


def rates(
    tokens: float, step_s: float, num_weights: int, num_gpus: int, peak_tflops: float | None
) -> dict[str, float]:
    """Tokens a second over all processes, and, where the peak is known, MFU as a share of it."""
    found = {"throughput/tokens_per_s": tokens / step_s}
    if peak_tflops is not None:
        flops = FLOPS_PER_WEIGHT * num_weights * tokens
        found["throughput/mfu"] = flops / (step_s * num_gpus * peak_tflops * 1e12)
    return found


def known_peak_tflops() -> float | None:
    """Of this process's GPU; None where there is none, or one that we do not know."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((float(peak) for part, peak in PEAK_TFLOPS.items() if part in name), None)


def memory_bytes() -> int:
    """The most that this process has held: on its GPU, or else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
