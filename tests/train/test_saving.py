"""What holds of every trainer: how it saves, stops, goes on, and runs out of disk."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from train.checkpoints import Checkpoints
from train.nonfinite import NonFiniteGuard
from train.preemption import StopSignals
from train.saving import CheckpointKeeper
from train.settings.checkpoints import CheckpointConfig

Fit = Callable[..., float]


class Logged(TrainerCallback):
    """Keeps what the trainer logs, by step; at `signal_at` a signal comes."""

    def __init__(self, signals: StopSignals, signal_at: int = -1) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.signals = signals
        self.signal_at = signal_at

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.signal_at:
            self.signals.received = "SIGTERM"

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.steps[state.global_step] = dict(logs)


class Saved:
    """One run of the line with its checkpoints; every call goes on from the newest one."""

    def __init__(self, folder: Path, fit: Fit) -> None:
        self.fit = fit
        self.said: list[str] = []
        self.logged: dict[int, dict[str, float]] = {}
        self.checkpoints = Checkpoints(folder, CheckpointConfig(), {}, self.said.append)

    def __call__(
        self, signal_at: int = -1, steps_per_savepoint: int = 1, limit: int = 3, **options: Any
    ) -> float:
        signals = StopSignals()
        guard, log = NonFiniteGuard(limit, self.said.append), Logged(signals, signal_at)
        parts = {"skipped": guard}
        last = self.checkpoints.newest()
        if last is not None:
            last.restore(parts)
        keeper = CheckpointKeeper(self.checkpoints, signals, parts, steps_per_savepoint)
        try:
            with self.checkpoints.explaining():
                return self.fit(
                    self.checkpoints.staging_dir,
                    [guard, log, keeper],
                    resume_from=last.path if last else None,
                    **options,
                )
        finally:
            self.logged |= log.steps

    @property
    def steps(self) -> set[int]:
        return {int(p.name.removeprefix("checkpoint-")) for p in self.checkpoints.folder.iterdir()}


@pytest.fixture
def make_run(tmp_path: Path, fit_line: Fit) -> Callable[[str], Saved]:
    return lambda name: Saved(tmp_path / name, fit_line)


def test_the_last_two_checkpoints_stay_and_nothing_else(make_run: Callable[[str], Saved]) -> None:
    run = make_run("run")
    run()
    assert run.steps == {4, 6}


def test_a_signal_saves_at_the_end_of_the_step_and_the_resumed_run_ends_alike(
    make_run: Callable[[str], Saved],
) -> None:
    whole, stopped = make_run("whole"), make_run("stopped")
    end = whole()
    stopped(signal_at=3)
    assert stopped.steps == {2, 3}
    assert stopped() == end
    assert stopped.logged.keys() == whole.logged.keys()
    for step, logged in whole.logged.items():
        assert stopped.logged[step]["loss"] == logged["loss"]
        assert stopped.logged[step]["learning_rate"] == logged["learning_rate"]


def test_a_signal_waits_until_the_rollouts_are_used_up(make_run: Callable[[str], Saved]) -> None:
    run = make_run("run")
    run(signal_at=1, steps_per_savepoint=4, save_steps=8)
    assert run.steps == {4}


def test_a_resumed_run_saves_as_often_as_it_is_asked_to_now(
    make_run: Callable[[str], Saved],
) -> None:
    run = make_run("run")
    run(signal_at=2, save_steps=2)
    run(save_steps=1)
    assert run.steps == {5, 6}


@contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Every file that grows beyond so many bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_to_do(
    make_run: Callable[[str], Saved],
) -> None:
    run = make_run("run")
    run(signal_at=2, padding=300_000)
    with (
        files_limited_to(1_000_000),
        pytest.raises(
            OSError, match=r"checkpoint-4 could not be saved .* checkpoint-2 is whole; make"
        ),
    ):
        run(padding=300_000)
    assert run.steps == {2}
    found = run.checkpoints.newest()
    assert found is not None
    assert found.step == 2
    # With room again, the run goes on to its end.
    run(padding=300_000)
    assert run.steps == {4, 6}


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(
    make_run: Callable[[str], Saved], fit_line: Fit, tmp_path: Path
) -> None:
    run = make_run("run")
    end = run(spoil=lambda step: step == 6)
    # The last step did nothing: the weight is that of a run which ends before it.
    before = fit_line(tmp_path / "five", max_steps=6, spoil=lambda step: step == 6)
    assert math.isnan(before)
    assert math.isfinite(end)
    assert run.logged[6]["skipped_steps"] == 1
    assert "skipped_steps" not in run.logged[5]
    assert run.said == [
        "WARNING: step 6: the loss or gradient is not finite; the step is skipped (1 so far)"
    ]


def test_too_many_such_steps_in_a_row_end_the_run(make_run: Callable[[str], Saved]) -> None:
    run = make_run("run")
    run(spoil=lambda step: step in (1, 2, 4, 5))
    assert run.logged[6]["skipped_steps"] == 4
    bad = make_run("bad")
    with pytest.raises(
        ValueError, match=r"step 5: 3 steps in a row .* lower trainer.learning_rate"
    ):
        bad(spoil=lambda step: step >= 3)


def test_a_resumed_run_goes_on_counting(make_run: Callable[[str], Saved]) -> None:
    run = make_run("run")
    run(signal_at=2, spoil=lambda step: step <= 2)
    with pytest.raises(ValueError, match=r"step 3: 3 steps in a row"):
        run(spoil=lambda step: step == 3)
