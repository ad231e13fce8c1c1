"""Watches a run: probes the policy every few steps, logs, warns, and ends what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from train.logs import MetricLog
from train.monitors.catalogue import MONITORS
from train.monitors.limits import Alarm, Limits, alarms
from train.monitors.probe import Probe

PREFIX = "monitor/"
# Also measured relative to the first probe.
RATIOS = ("plan_words", "entropy")
COLUMNS = ("monitor", "value", "at_start", "verdict", "meaning")


class MonitorCallback(TrainerCallback):
    """Probes at the start, every `every_steps` optimizer steps and at the end.

    The first probe is what later ones are compared with; it is never judged. A stop asks the
    trainer for a checkpoint and for its end, and leaves its reason in `stopped`.

    For any trainer of transformers. With several processes each plays the whole probe, since a
    sharded policy wants all of them for every pass; the main one judges for all.
    """

    def __init__(
        self,
        probe: Probe,
        limits: Mapping[str, Limits],
        every_steps: int,
        patience: int,
        log: MetricLog,
        say: Callable[[str], None],
        history: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """`history` are the probes of the run that this one goes on with."""
        self.probe = probe
        self.limits = limits
        self.every_steps = every_steps
        self.patience = patience
        self.log = log
        self.say = say
        self.probes = list(history)
        self.stopped: Alarm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if not self.probes:
            self._probe(args, state, given)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step % self.every_steps and state.global_step != state.max_steps:
            return
        self._probe(args, state, given)
        found = self._judge()
        if found and found[0].is_stop:
            self.stopped = found[0]
            control.should_save = control.should_training_stop = True
        if state.is_world_process_zero:
            for alarm in found:
                if alarm is not self.stopped:
                    self.say(f"WARNING: step {state.global_step}: {alarm.line}")

    def _probe(self, args: Any, state: Any, given: Mapping[str, Any]) -> None:
        # An actor and a critic may be one module; what is watched is the actor.
        policy = getattr(given["model"], "policy", given["model"])
        with torch.autocast(policy.device.type, torch.bfloat16, enabled=args.bf16):
            values = self.probe.measure(policy, given["processing_class"])
        first = self.probes[0] if self.probes else values
        for name in RATIOS:
            if name in values and first.get(name):
                values[f"{name}_ratio"] = values[name] / first[name]
        self.probes.append(values)
        if state.is_world_process_zero:
            metrics = {PREFIX + name: value for name, value in values.items()}
            self.log.log(state.global_step, metrics)
            rows = [self._row(name, values, first) for name in MONITORS if name in values]
            self.log.table(state.global_step, "monitors", COLUMNS, rows)

    def _row(
        self, name: str, values: Mapping[str, float], first: Mapping[str, float]
    ) -> tuple[Any, ...]:
        is_first = len(self.probes) == 1
        verdict = "start" if is_first else self.limits.get(name, Limits()).verdict(values[name])
        return name, values[name], first.get(name), verdict, MONITORS[name].meaning

    def _judge(self) -> list[Alarm]:
        """What the main process makes of the probes: all processes stop, or none."""
        found = alarms(self.probes[1:], self.limits, self.patience)
        if PartialState().num_processes == 1:
            return found
        return broadcast_object_list([found])[0]


def read_probes(metrics_path: Path) -> list[dict[str, float]]:
    """The probes in a `metrics.jsonl`, in order."""
    if not metrics_path.exists():
        return []
    lines = [json.loads(line) for line in metrics_path.read_text(encoding="utf-8").splitlines()]
    found = [
        {
            name.removeprefix(PREFIX): value
            for name, value in line.items()
            if name.startswith(PREFIX) and value is not None
        }
        for line in lines
    ]
    return [probe for probe in found if probe]
