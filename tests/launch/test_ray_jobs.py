"""A training as a job of a real Ray: followed, alone in its run, cancelled, taken to its end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import RayJobs, ray_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'nextchapter[ray]'"
    ),
]

TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    *("reward.rules.truncated=score", "monitors=off"),
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=1"),
    # So many that it is not over before it is cancelled.
    *("trainer.max_steps=2000", "trainer.save_steps=2000", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=2", "trainer.per_device_batch_size=4"),
    *("trainer.max_completion_length=16", "sampling.max_new_tokens=16"),
    *("evaluation.max_episodes=2", "evaluation.decodings=[greedy]"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[RayJobs]:
    with ray_cluster(tmp_path_factory.mktemp("ray"), repository) as cluster:
        yield cluster


def nextchapter(
    ray: RayJobs, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "launch", "launch", *arguments],
        cwd=folder,
        env={**ray.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def place(ray: RayJobs) -> tuple[str, ...]:
    return ("launch=ray", f"launch.address={ray.address}", "launch.device=cpu", "nodes=2")


def logged_steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"learning_rate"') if path.exists() else 0


def status_when(ray: RayJobs, folder: Path, word: str) -> str:
    """What `launch status` shows once the word is in it."""
    give_up = time.monotonic() + 600
    while word not in (shown := nextchapter(ray, folder, "status", "run").stdout):
        assert time.monotonic() < give_up, shown
        time.sleep(1)
    return shown


def test_a_job_is_alone_in_its_run_saves_when_cancelled_and_a_second_one_ends_it(
    ray: RayJobs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launched = nextchapter(ray, tmp_path, "train", *place(ray), "run_dir=run", *TINY)
    assert launched.returncode == 0, launched.stderr[-3000:]
    record = json.loads((run / "job" / "job.json").read_text())
    assert launched.stdout.startswith(f"ray job {record['id']}: nextchapter launch status run")
    assert ray.environment["RAY_AUTH_TOKEN"] not in (run / "job" / "job.sh").read_text()
    give_up = time.monotonic() + 600
    while logged_steps(run) < 1:
        # A job that has ended will log no step.
        is_over = (run / "job" / "end.json").exists() or time.monotonic() > give_up
        assert not is_over, nextchapter(ray, tmp_path, "status", "run").stdout
        time.sleep(0.2)
    shown = nextchapter(ray, tmp_path, "status", "run").stdout
    assert f"ray job {record['id']}: RUNNING" in shown
    assert f"attempt {record['submission']}.0: running, last moved" in shown
    second = nextchapter(ray, tmp_path, "train", *place(ray), "resume=run")
    assert second.returncode == 2 and second.stderr.count("\n") == 1
    # On this machine by the run's lock; from one that does not see it, by what Ray says of the job.
    assert "at work in this run" in second.stderr

    assert "reinforcement ..." in nextchapter(ray, tmp_path, "logs", "run").stdout
    assert nextchapter(ray, tmp_path, "cancel", "run").returncode == 0
    shown = status_when(ray, tmp_path, f"ray job {record['id']}: ended")
    (checkpoint,) = (run / "checkpoints").glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 1 <= step < 2000 and step == logged_steps(run)
    assert f"last checkpoint: step {step}" in shown
    assert f"attempt {record['submission']}.0: asked to leave: nextchapter train: stop" in shown
    end = json.loads((run / "job" / "end.json").read_text())
    assert end["status"] == 130
    assert "cancelled; nextchapter train: stopped by SIGTERM, with a checkpoint" in end["message"]

    few = f"trainer.max_steps={step + 2}"
    again = nextchapter(ray, tmp_path, "train", *place(ray), "resume=run", few)
    assert again.returncode == 0, again.stderr[-3000:]
    shown = status_when(ray, tmp_path, ": ended")
    later = json.loads((run / "job" / "job.json").read_text())
    assert later["id"] != record["id"]
    assert f"attempt {later['submission']}.0: done" in shown
    assert logged_steps(run) == step + 2
    lines = (run / "job" / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["checkpoint"] for line in lines] == [None, step]
    assert (run / "evaluation.json").is_file()


def test_a_token_that_the_cluster_refuses_is_one_line(ray: RayJobs, tmp_path: Path) -> None:
    wrong = {"RAY_AUTH_TOKEN": "0" * 64}
    refused = nextchapter(ray, tmp_path, "train", *place(ray), "run_dir=run", **wrong)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert f"launch.address: Ray at {ray.address} refused" in line
    assert line.endswith("RAY_AUTH_TOKEN is set")
    assert not (tmp_path / "run").exists()
