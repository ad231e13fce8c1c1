"""Writes what a trainer measures into the logs of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from envs.types import Rollout
from rewards.types import Score
from train.logs import MetricLog
from train.member_metrics import MemberMetrics
from train.progress import Advance
from train.step_times import StepTimes
from train.throughput import Throughput

ROLLOUTS_PER_TABLE = 8


class Recorder(TrainerCallback):
    """Writes what the trainer measures, and every few steps some rollouts, into the run's logs."""

    def __init__(
        self,
        log: MetricLog,
        advance: Advance,
        passes_per_step: float,
        times: StepTimes,
        steps_between_tables: int = 10,
        throughput: Throughput | None = None,
        members: MemberMetrics | None = None,
    ) -> None:
        self.log = log
        self.advance = advance
        self.passes_per_step = passes_per_step
        self.times = times
        self.steps_between_tables = steps_between_tables
        self.throughput = throughput
        self.members = members
        self._rollouts: list[tuple[Rollout, Score]] = []

    def keep_rollouts(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
        self._rollouts = list(zip(rollouts, scores, strict=True))[:ROLLOUTS_PER_TABLE]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.times.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.times.end()
        self.advance(1)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        # Times and means over this process's steps, which are not all of the run's.
        is_summary = "train_runtime" in (logs or {})
        if not state.is_world_process_zero or not logs or is_summary:
            return
        numbers = {k: float(v) for k, v in logs.items() if v is not None}
        # Not every trainer says itself how long a step took.
        numbers = {"step_time": self.times.step_s, **numbers, **self.times.metrics}
        if "epoch" in numbers:
            # To the trainer the whole run is one epoch; to the reader it is a pass over the books.
            numbers["epoch"] = state.global_step * self.passes_per_step
        if self.throughput is not None:
            numbers |= self.throughput.metrics(numbers)
        if self.members is not None:
            numbers |= self.members.since_last()
        self.log.log(state.global_step, numbers)
        if state.global_step % self.steps_between_tables == 1 and self._rollouts:
            self.log.table(
                state.global_step,
                "rollouts",
                ["episode_id", "answer", "plan", "status", "improvement", "reward"],
                [
                    [
                        r.episode.episode_id,
                        r.reply.text,
                        r.outcome.plan,
                        r.status.value,
                        s.improvement,
                        s.reward,
                    ]
                    for r, s in self._rollouts
                ],
            )
