"""How fast a run goes and what it takes: tokens a second, MFU, memory of each process, cost."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from envs.agents import num_weights

GB = 10**9
# Dense bfloat16 peaks in 10^12 operations a second, of the makers' data sheets, by a part of the
# name that torch gives.
PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "B200": 2250}
# Per weight and token: 6 to learn (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) and 2 to
# sample. Attention, what activation checkpoints do again and learning again from the same answers
# are left out: it is a lower bound.
FLOPS_PER_WEIGHT = 6 + 2


class Throughput(TrainerCallback):
    """Measures the memory of all processes at each step, and makes rates of what trainers log.

    `peak_tflops` of one GPU and `price_per_gpu_hour` are None where they are not known, and then
    nothing is made of them. Rates are of the last `steps_per_rollout` optimizer steps, which learn
    from the same answers.
    """

    def __init__(
        self,
        num_gpus: int,
        peak_tflops: float | None = None,
        price_per_gpu_hour: float | None = None,
        steps_per_rollout: int = 1,
    ) -> None:
        self.num_gpus = num_gpus
        self.peak_tflops = known_peak_tflops() if peak_tflops is None else peak_tflops
        self.price_per_gpu_hour = price_per_gpu_hour
        self._memory: dict[str, float] = {}
        self._num_weights = 0
        # Tokens of the whole run after each of the last steps, and the seconds that the step took.
        self._steps: deque[tuple[float, float]] = deque(maxlen=steps_per_rollout + 1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        # An actor and a critic may be one module.
        model = getattr(given["model"], "policy", given["model"])
        # Under ZeRO-3 a process holds a part of each weight, which knows how many it has.
        self._num_weights = num_weights(model)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        peaks = gather_object([memory_bytes()])
        self._memory = {f"memory/rank_{rank}_gb": peak / GB for rank, peak in enumerate(peaks)}

    def metrics(self, logs: Mapping[str, float]) -> dict[str, float]:
        """What follows from what the trainer logs of a step, its `step_time` above all."""
        found = dict(self._memory)
        step_s, tokens = logs.get("step_time"), logs.get("num_tokens")
        if not step_s:
            return found
        if self.price_per_gpu_hour is not None:
            found["cost/step"] = self.price_per_gpu_hour * self.num_gpus * step_s / 3600
        if tokens is not None:
            self._steps.append((tokens, step_s))
        # The trainer counts from the start of the run, which says nothing of the first steps here.
        if len(self._steps) == self._steps.maxlen:
            (before, _), *steps = self._steps
            learned, seconds = steps[-1][0] - before, sum(taken for _, taken in steps)
            found |= rates(learned, seconds, self._num_weights, self.num_gpus, self.peak_tflops)
        return found


def rates(
    tokens: float, step_s: float, num_weights: int, num_gpus: int, peak_tflops: float | None
) -> dict[str, float]:
    """Tokens a second over all processes, and, where the peak is known, MFU as a share of it.

    Under LoRA the MFU is overstated, by up to a third: the frozen weights learn nothing, and 2 of
    the 6 operations of learning are not done for them.
    """
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
