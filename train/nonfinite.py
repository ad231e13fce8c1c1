"""Steps whose gradient is not finite are skipped, counted, and end the run if they go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate.utils import DeepSpeedOptimizerWrapper
from torch import nn
from transformers import TrainerCallback


class NonFiniteGuard(TrainerCallback):
    """Keeps infinities and NaN in loss or gradient out of the weights and the optimizer's state.

    Before `limit` such steps in a row the step is only skipped; the schedule goes on, but under
    DeepSpeed, which counts the steps that it took. It has to stand before the callback that keeps
    logs, to which it adds `skipped_steps`.
    """

    def __init__(self, limit: int, say: Callable[[str], None]) -> None:
        self.limit = limit
        self.say = say
        self.num_skipped = 0
        self.num_in_a_row = 0

    def state(self) -> dict[str, Any]:
        return {"num_skipped": self.num_skipped, "num_in_a_row": self.num_in_a_row}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.num_skipped = state["num_skipped"]
        self.num_in_a_row = state["num_in_a_row"]

    def on_pre_optimizer_step(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        # fp16 overflows now and then by design; its loss scaler skips those steps by itself.
        has_scaler = getattr(optimizer, "scaler", None) is not None
        if model is None or has_scaler or isinstance(optimizer, DeepSpeedOptimizerWrapper):
            return
        learning = [p for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
        if bool(torch.isfinite(norm)):
            self.num_in_a_row = 0
            return
        for parameter in learning:
            # An optimizer leaves a parameter without a gradient as it is, and its moments too.
            parameter.grad = None
        self._count(state.global_step + 1)

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """DeepSpeed steps in the backward pass, and leaves out by itself what is not finite."""
        if not isinstance(optimizer, DeepSpeedOptimizerWrapper):
            return
        # That is fp16's scaler again.
        if getattr(optimizer.optimizer, "dynamic_loss_scale", False):
            return
        if optimizer.step_was_skipped:
            self._count(state.global_step + 1)
        else:
            self.num_in_a_row = 0

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        if self.num_skipped:
            logs["skipped_steps"] = self.num_skipped
        norm = logs.get("grad_norm")
        applied = not self.num_in_a_row and norm is not None and not math.isfinite(norm)
        # So it is where DeepSpeed's own config says `bf16.check_grad_overflow: false`.
        if applied and args.deepspeed is not None:
            raise ValueError(
                f"step {state.global_step}: the gradient was not finite, and DeepSpeed has applied "
                f"it; leave out distributed.deepspeed.bf16.check_grad_overflow, or {_REMEDY}"
            )

    def _count(self, step: int) -> None:
        self.num_skipped += 1
        self.num_in_a_row += 1
        if self.num_in_a_row >= self.limit:
            raise ValueError(
                f"step {step}: {self.num_in_a_row} steps in a row had a loss or gradient that is "
                f"not finite; {_REMEDY}"
            )
        self.say(
            f"WARNING: step {step}: the loss or gradient is not finite; the step is skipped "
            f"({self.num_skipped} so far)"
        )


_REMEDY = (
    "lower trainer.learning_rate or trainer.max_grad_norm, then resume; the weights of the last "
    "checkpoint are sound"
)
