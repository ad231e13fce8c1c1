"""The device that is measured: when it is done, and how fast it multiplies matrices."""

from __future__ import annotations

import time

import torch

# The best of so many: what else the device does can only make it slower.
MATMUL_TRIALS = 10


def synchronize(device: torch.device) -> None:
    """Waits for what was queued on an accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def matmul_flops_per_s(size: int, dtype: torch.dtype, device: torch.device) -> float:
    """The rate of a product of square matrices: what a large model can hope for here."""
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(MATMUL_TRIALS):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(left, right)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
