"""Measurements reach every sink, survive a resume, and never stop a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from train.logs import JsonlSink, LogConfig, MetricLog, TensorBoardSink, WandbSink
from train.run_folder import RunFolder


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.seen.append((step, dict(metrics)))

    def table(self, step: int, name: str, columns: Sequence[str], rows: Any) -> None:
        self.seen.append((step, name, tuple(columns), rows))

    def close(self) -> None:
        self.seen.append("closed")


class FakeWandbRun:
    """What a W&B run does, as far as it is used; `broken` stands for a lost connection."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.broken = False

    def log(self, content: dict[str, Any]) -> None:
        if self.broken:
            raise ConnectionError("server gone")
        self.logged.append(content)

    def finish(self) -> None:
        if self.broken:
            raise ConnectionError("server gone")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_a_metric_log_hands_everything_to_every_sink() -> None:
    sinks = [Recorder(), Recorder()]
    with MetricLog(sinks) as log:
        log.log(1, {"reward": 0.5})
        log.table(1, "rollouts", ["plan"], [["go"]])
    expected = [(1, {"reward": 0.5}), (1, "rollouts", ("plan",), [["go"]]), "closed"]
    assert [sink.seen for sink in sinks] == [expected, expected]


def test_a_table_row_has_to_fit_its_columns() -> None:
    with pytest.raises(ValueError, match="table rollouts: 2 columns, but a row of 1"):
        MetricLog([]).table(1, "rollouts", ["plan", "reward"], [["go"]])


def test_scalars_of_any_kind_become_plain_numbers_and_nan_becomes_null(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl", tmp_path / "tables")
    sink.log(3, {"a": np.float32(0.5), "b": torch.tensor(2), "c": float("nan"), "d": True})
    (line,) = lines(tmp_path / "metrics.jsonl")
    del line["time_s"]
    assert line == {"step": 3, "a": 0.5, "b": 2, "c": None, "d": 1}
    with pytest.raises(ValueError, match="a metric is a number; got 'high'"):
        sink.log(4, {"a": "high"})


def test_a_resumed_log_drops_what_came_after_the_resumed_step(tmp_path: Path) -> None:
    path, tables = tmp_path / "metrics.jsonl", tmp_path / "tables"
    sink = JsonlSink(path, tables)
    for step in range(5):
        sink.log(step, {"reward": step})
        sink.table(step, "rollouts", ["plan"], [["line\nbreak\u2028 and é"]])
    with path.open("a") as file:
        file.write('{"step": 5, "rew')
    resumed = JsonlSink(path, tables, resumed_step=2)
    resumed.log(3, {"reward": 30})
    assert [(line["step"], line["reward"]) for line in lines(path)] == [
        *((0, 0), (1, 1), (2, 2)),
        (3, 30),
    ]
    rows = lines(tables / "rollouts.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[0]["plan"] == "line\nbreak\u2028 and é"


def test_tensorboard_files_hold_the_measurements(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoardSink(tmp_path)
    sink.log(1, {"reward": 0.25})
    sink.log(2, {"reward": 0.5})
    sink.table(2, "rollouts", ["plan", "reward"], [["a | b", 0.5]])
    sink.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("reward")] == [(1, 0.25), (2, 0.5)]


def test_wandb_gets_the_step_with_the_metrics_and_no_secrets(tmp_path: Path) -> None:
    run, given = FakeWandbRun(), []

    def start(*arguments: Any) -> FakeWandbRun:
        given.extend(arguments)
        return run

    sink = WandbSink(tmp_path, "offline", "project", {"api_key": "sk-1", "seed": 1}, start)
    sink.log(4, {"reward": torch.tensor(0.5)})
    assert run.logged == [{"step": 4, "reward": 0.5}]
    assert given[3] == {"api_key": "<redacted>", "seed": 1}


def test_a_run_goes_on_when_wandb_cannot_be_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_: Any) -> None:
        raise TimeoutError("no answer")

    with caplog.at_level(logging.WARNING):
        sink = WandbSink(tmp_path, "online", "project", {}, unreachable)
        sink.log(1, {"reward": 1.0})
        sink.close()
    assert "could not be started (no answer)" in caplog.text


def test_a_run_goes_on_when_wandb_is_lost_on_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = FakeWandbRun()
    sink = WandbSink(tmp_path, "online", "project", {}, lambda *_: run)
    run.broken = True
    for step in range(3):
        sink.log(step, {"reward": 1.0})
    sink.close()
    assert caplog.text.count("goes on without it") == 1


def test_an_offline_wandb_run_is_kept_in_the_run_folder(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path / "run", {"seed": 1}) as folder,
        MetricLog.open(folder, LogConfig(tensorboard=False), {"seed": 1}) as log,
    ):
        log.log(1, {"reward": 0.5})
        log.table(1, "rollouts", ["plan"], [["go"]])
    assert list(folder.wandb_dir.glob("offline-run-*/*.wandb"))
    assert lines(folder.metrics_path)[0]["reward"] == 0.5


def test_disabled_sinks_leave_no_files(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path / "run", {}) as folder,
        MetricLog.open(folder, LogConfig(tensorboard=False, wandb="disabled")) as log,
    ):
        log.log(1, {"reward": 0.5})
    assert not folder.wandb_dir.exists()
    assert not folder.tensorboard_dir.exists()
