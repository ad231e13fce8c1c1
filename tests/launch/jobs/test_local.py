"""A job on this machine: followed, asked to leave, refused a second time, and launched again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from slurm_cluster import descendants

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(600)]

TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    *("reward.rules.truncated=score", "monitors=off"),
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=1"),
    # So many that it is not over before it is cancelled.
    *("trainer.max_steps=2000", "trainer.save_steps=2000", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=2", "trainer.per_device_batch_size=8"),
    *("trainer.max_completion_length=16", "sampling.max_new_tokens=16"),
    *("evaluation.max_episodes=2", "evaluation.decodings=[greedy]"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)


def nextchapter(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "launch", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def logged_steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"learning_rate"') if path.exists() else 0


def wait_until_gone(folder: Path) -> str:
    give_up = time.monotonic() + 120
    while "ended" not in (shown := nextchapter(folder, "launch", "status", "run").stdout):
        assert time.monotonic() < give_up, shown
        time.sleep(0.5)
    return shown


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test launches; whatever is left of its job in the end is killed."""
    yield tmp_path
    record = tmp_path / "run" / "job" / "job.json"
    # No process has number 0.
    script = int(json.loads(record.read_text())["id"] or 0) if record.exists() else 0
    command = Path(f"/proc/{script}/cmdline")
    if not command.exists() or str(tmp_path) not in command.read_text():
        return
    for pid in (script, *descendants(script)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_job_behind_is_cancelled_with_a_checkpoint_and_goes_on_in_front(folder: Path) -> None:
    run = folder / "run"
    launched = nextchapter(folder, "launch", "train", "launch.detach=true", "run_dir=run", *TINY)
    assert launched.returncode == 0, launched.stderr[-3000:]
    give_up = time.monotonic() + 240
    while logged_steps(run) < 1:
        assert time.monotonic() < give_up, (run / "job" / "job.log").read_text()[-3000:]
        time.sleep(0.02)
    second = nextchapter(folder, "launch", "train", "resume=run", "launch=local")
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1 and "at work in this run" in second.stderr

    assert nextchapter(folder, "launch", "cancel", "run").returncode == 0
    shown = wait_until_gone(folder)
    assert "asked to leave: nextchapter train: stopped by SIGTERM" in shown
    steps = logged_steps(run)
    assert (run / "checkpoints" / f"checkpoint-{steps}").is_dir() and steps < 2000
    assert "reinforcement ..." in nextchapter(folder, "launch", "logs", "run").stdout

    rest = ("launch=local", f"trainer.max_steps={steps + 2}")
    again = nextchapter(folder, "launch", "train", "resume=run", *rest)
    assert again.returncode == 0, again.stderr[-3000:]
    assert logged_steps(run) == steps + 2 and (run / "evaluation.json").exists()
    assert "Improvement on unseen books" in again.stdout
    assert nextchapter(folder, "launch", "cancel", "run").returncode == 2
