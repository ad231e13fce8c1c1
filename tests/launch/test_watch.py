"""`nextchapter watch`: what a run's folder tells, while it goes on and afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from train.run_folder import RunFolder
from train.watch import Watched, rows

LINE = {
    "reward": 0.5,
    "improvement": 1.25,
    "throughput/tokens_per_s": 1234.0,
    "throughput/mfu": 0.31,
    "time/rollout": 5.0,
    "time/scoring": 2.0,
    "time/update": 2.0,
    "time/waiting": 1.0,
    "step_time": 10.0,
    "memory/rank_0_gb": 1.5,
    "memory/rank_1_gb": 2.0,
    "cost/step": 0.02,
}


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., Path]:
    """A run of 100 steps in a folder, with these lines of metrics and of the monitors' table."""

    def make(*lines: dict[str, Any], probes: tuple[dict[str, Any], ...] = ()) -> Path:
        config = {"experiment_name": "ours", "trainer": {"max_steps": 100}}
        with RunFolder.create(tmp_path / "run", config) as folder:
            folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            folder.tables_dir.mkdir()
            table = folder.tables_dir / "monitors.jsonl"
            table.write_text("".join(json.dumps(row) + "\n" for row in probes))
        return tmp_path / "run"

    return make


def test_a_run_is_shown_with_its_parts_pace_and_cost(watched: Callable[..., Path]) -> None:
    lines = [{"step": step, "time_s": 1000.0 + 10 * step, **LINE} for step in (1, 2, 3, 4)]
    run = Watched.read(watched(*lines), now=1045.0)
    assert dict(rows(run)) == {
        # 96 steps of 10 s.
        "progress": "4%, 16 min left to train",
        "reward": "0.500",
        "improvement": "1.250 %",
        "throughput": "1,234 tokens/s",
        "step": "10.0 s (rollout 50%, scoring 20%, update 20%, waiting 10%)",
        "MFU": "31.0%",
        "memory": "1.5, 2.0 GB (peak of each rank)",
        "cost": "0.0200 a step, 0.08 so far",
        "last sign": "5 s ago",
    }


def test_a_run_that_says_nothing_for_long_is_called_quiet(watched: Callable[..., Path]) -> None:
    folder = watched({"step": 1, "time_s": 1000.0, **LINE})
    # Five steps of 10 s, and a minute.
    assert not Watched.read(folder, now=1110.0).is_quiet
    assert Watched.read(folder, now=1111.0).is_quiet
    assert dict(rows(Watched.read(folder, now=1111.0)))["quiet"] == "2 min ago"


def test_a_clock_that_was_set_back_calls_no_run_quiet(watched: Callable[..., Path]) -> None:
    run = Watched.read(watched({"step": 1, "time_s": 1000.0, **LINE}), now=-50_000.0)
    assert not run.is_quiet and run.age_s == 0.0
    assert dict(rows(run))["last sign"] == "0 s ago"


def test_only_the_newest_alarms_are_shown(watched: Callable[..., Path]) -> None:
    probe = {"monitor": "gain", "meaning": "what it is", "at_start": 0.0}
    run = Watched.read(
        watched(
            {"step": 9, "time_s": 1.0, **LINE},
            probes=(
                {"step": 5, "value": 1.0, "verdict": "stop", **probe},
                {"step": 9, "value": 2.5, "verdict": "warn", **probe},
                {"step": 9, "value": 3.0, "verdict": "ok", **probe},
            ),
        )
    )
    assert run.alarms == ["warn: gain = 2.5 (what it is)"]


def test_a_run_without_a_measurement_yet_and_a_line_in_the_making(
    watched: Callable[..., Path],
) -> None:
    folder = watched()
    assert dict(rows(Watched.read(folder))) == {"progress": "0%"}
    (folder / "metrics.jsonl").write_text('{"step": 1, "time_s": 1.0, "reward": 0.1}\n{"step": 2')
    assert Watched.read(folder, now=2.0).step == 1


def test_the_command_prints_a_table_once_where_there_is_no_terminal(
    watched: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = watched({"step": 2, "time_s": 1000.0, **LINE})
    assert main(["watch", f"run={folder}"]) == 0
    shown = capsys.readouterr().out
    assert "ours: step 2 of 100" in shown and "1,234 tokens/s" in shown


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", f"run={tmp_path / 'nothing'}"]) == 2
    assert "no such run folder" in capsys.readouterr().err
