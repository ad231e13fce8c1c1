"""When a trainer saves: every few steps, at its end, and where a signal asks the run to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from train import ranks
from train.checkpoints import Checkpoints, Stateful
from train.preemption import StopSignals


class CheckpointKeeper(TrainerCallback):
    """Keeps what any trainer of transformers saves, together with the `parts` of the run.

    A signal is heeded every `steps_per_savepoint` optimizer steps: where a trainer keeps the
    answers that it learns from in memory alone, a checkpoint is complete when they are used up.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        signals: StopSignals,
        parts: Mapping[str, Stateful],
        steps_per_savepoint: int = 1,
    ) -> None:
        self.checkpoints = checkpoints
        self.signals = signals
        self.parts = parts
        self.steps_per_savepoint = steps_per_savepoint

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # A resumed trainer goes by the checkpoint's numbers, whatever was set since.
        state.save_steps, state.logging_steps = args.save_steps, args.logging_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps_per_savepoint:
            return
        if ranks.any_says(self.signals.received is not None):
            # One process may have got the signal alone; all of them stop.
            self.signals.received = self.signals.received or "a signal to another process"
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.checkpoints.keep(state.global_step, self.parts)
