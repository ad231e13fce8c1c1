"""Runs on a real Slurm of two nodes: preempted, with a node killed, and refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1800)]

NEXTCHAPTER = (sys.executable, "-P", "-m", "launch")
NUM_STEPS = 8
# Measured by the clock.
CLOCKED = ("time", "step_time", "throughput/", "memory/", "cost/")
TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    # Whatever is answered is a plan and is scored, so that there is something to learn.
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    *("reward.rules.truncated=score", "monitors=off"),
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=1"),
    *(f"trainer.max_steps={NUM_STEPS}", "trainer.save_steps=3", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=2", "trainer.per_device_batch_size=4"),
    *("trainer.lr_scheduler_type=linear", "trainer.max_completion_length=16"),
    *("sampling.max_new_tokens=16", "evaluation.max_episodes=2", "evaluation.decodings=[greedy]"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)
TWO_NODES = ("launch=slurm", "nodes=2", "gpus_per_node=1", "launch.device=cpu")


def nextchapter(
    cluster: SlurmCluster, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A user's command on the login node; jobs inherit its environment."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [*NEXTCHAPTER, *arguments],
        cwd=folder,
        env={**cluster.environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def submit(cluster: SlurmCluster, folder: Path, *settings: str) -> tuple[str, Path]:
    """The id and the run folder of a training that was launched."""
    done = nextchapter(cluster, folder, "launch", "train", *TWO_NODES, "run_dir=run", *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((folder / "run" / "job" / "job.json").read_text())
    assert done.stdout.startswith(f"slurm job {record['id']}: ")
    return record["id"], folder / "run"


def logged_steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"learning_rate"') if path.exists() else 0


def newest_checkpoint(run: Path) -> int:
    saved = run.glob("checkpoints/checkpoint-*")
    return max((int(path.name.removeprefix("checkpoint-")) for path in saved), default=0)


def wait_until(is_reached: Callable[[], bool], run: Path, timeout_s: float = 600) -> None:
    give_up = time.monotonic() + timeout_s
    while not is_reached():
        log = run / "job" / "job.log"
        assert time.monotonic() < give_up, log.read_text()[-5000:] if log.exists() else "no log"
        time.sleep(0.05)


def wait_for_end(cluster: SlurmCluster, job_id: str, run: Path, timeout_s: float = 600) -> None:
    """Until the job is done; whenever it is queued again, it may start soon."""
    was_pending = False

    def has_ended() -> bool:
        nonlocal was_pending
        state = cluster.state(job_id)
        if state == "PENDING" and not was_pending:
            cluster.release(job_id)
        was_pending = state == "PENDING"
        time.sleep(0.5)
        return state in ("", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")

    wait_until(has_ended, run, timeout_s)


def log_of(run: Path) -> str:
    return (run / "job" / "job.log").read_text(encoding="utf-8", errors="replace")


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith(CLOCKED)} for line in lines
    ]


def test_a_run_over_two_nodes_that_is_preempted_and_loses_a_node_ends_as_the_undisturbed_one(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    settings = ("distributed=zero2", *TINY)
    whole_id, whole = submit(slurm, tmp_path / "whole", *settings)
    wait_for_end(slurm, whole_id, whole)
    assert (whole / "evaluation.json").exists(), log_of(whole)[-5000:]

    job_id, run = submit(slurm, tmp_path / "disturbed", *settings)
    wait_until(lambda: logged_steps(run) >= 1, run)
    slurm.run("scontrol", "requeue", job_id)
    wait_until(lambda: slurm.state(job_id) == "PENDING", run)
    # The step that was under way ended, and is saved.
    saved_step = newest_checkpoint(run)
    assert saved_step == logged_steps(run) < NUM_STEPS - 2
    # A second job on the same folder is refused as long as this one is to go on.
    second = nextchapter(slurm, run.parent, "launch", "train", *TWO_NODES, "resume=run")
    assert second.returncode == 2
    assert f"slurm job {job_id} is PENDING (BeginTime) in this run" in second.stderr
    slurm.release(job_id)
    wait_until(lambda: logged_steps(run) > saved_step, run)
    slurm.kill_node("n2")
    wait_until(lambda: slurm.state(job_id) == "PENDING", run)
    assert logged_steps(run) < NUM_STEPS
    slurm.start_node("n2")
    wait_for_end(slurm, job_id, run)

    assert (run / "evaluation.json").exists(), log_of(run)[-5000:]
    assert [line["step"] for line in metrics(run)] == list(range(1, NUM_STEPS + 1))
    assert metrics(run) == metrics(whole)
    for name in ("policy/model.safetensors", "evaluation.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    attempts = [json.loads(s) for s in (run / "job" / "attempts.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in attempts] == [f"{job_id}.{n}" for n in range(3)]
    assert attempts[0]["checkpoint"] is None and attempts[1]["checkpoint"] == saved_step
    shown = nextchapter(slurm, run.parent, "launch", "status", "run").stdout
    assert f"attempt {job_id}.2: done" in shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ("launch.device=cpu", "launch.partition=alll"),
            "launch.partition: no 'alll'; did you mean 'all'? there is all",
        ),
        (
            ("gpus_per_node=8",),
            "hardware.gpus_per_node: 8 asked for, and the largest node of all, the default "
            "partition, has 0; ask for fewer on more nodes, for another launch.partition, or set",
        ),
        (
            ("launch.device=cpu", "nodes=3"),
            "hardware.nodes: 3 asked for, and the most in all, the default partition, are 2; ask",
        ),
        (("launch.device=cpu", "launch.memory=9000T"), "launch: sbatch refused the job ("),
    ],
)
def test_what_this_slurm_cannot_run_is_one_line_and_leaves_no_file(
    slurm: SlurmCluster, tmp_path: Path, settings: tuple[str, ...], says: str
) -> None:
    refused = nextchapter(
        slurm, tmp_path / "here", "launch", "train", "launch=slurm", "run_dir=run", *settings
    )
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stderr.strip().splitlines()
    assert says in line
    assert list((tmp_path / "here").rglob("*")) == []


def test_a_sweep_of_eight_trials_reports_seven_results_and_the_one_that_failed(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    sweep = (
        *("launch", "train", "--multirun", "launch=slurm", "launch.device=cpu", *TINY),
        *("trainer.max_steps=1", "data.train_books=2", "hydra.sweep.dir=sweep"),
        # Of the numbers of attempts 6 alone does not divide into batches of 4: 2 of 3 episodes.
        *("trainer.num_generations=2,4", "trainer.episodes_per_step=2,3,4,6"),
    )
    launched = nextchapter(slurm, tmp_path, *sweep)
    assert launched.returncode == 0, launched.stderr[-3000:]
    trials = [tmp_path / "sweep" / str(number) for number in range(8)]
    for trial in trials:
        record = json.loads((trial / "job" / "job.json").read_text())
        wait_for_end(slurm, record["id"], trial)

    reported = nextchapter(slurm, tmp_path, "report", "sweep=sweep", "run_dir=report")
    assert reported.returncode == 0, reported.stderr[-3000:]
    assert "7 of 8 trials have a result, 1 failed; files in report" in reported.stdout
    found = json.loads((tmp_path / "report" / "sweep.json").read_text())
    (failed,) = found["failed"]
    assert failed["trial"] == 1
    assert "trainer.per_device_batch_size" in failed["error"]
    results = [t["improvement"] for t in found["trials"] if t["improvement"] is not None]
    assert len(results) == 7 and found["best"]["improvement"] == max(results)
    assert set(found["importance"]) == {"trainer.num_generations", "trainer.episodes_per_step"}
    for name in ("parallel_coordinates", "importance"):
        assert (tmp_path / "report" / "figures" / f"{name}.png").stat().st_size > 1000

    # The same command once more does nothing again, and says what failed.
    again = nextchapter(slurm, tmp_path, *sweep)
    assert again.stdout.count("done already") == 7
    assert "sweep/1: failed; launch.retry_failed=true tries it again" in again.stdout
