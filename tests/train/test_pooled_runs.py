"""`nextchapter train scorer=ray`, as a user runs it: the rewards are those of one process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Points of improvement and of reward. Another batch rounds otherwise.
TOLERANCE = 1e-3
# Of a weight, after steps with such rewards.
WEIGHT_TOLERANCE = 1e-5
SMALL = (
    "experiment=smoke",
    *("data.train_books=6", "data.test_books=2", "data.demonstration_books=10"),
    *("warm_start.max_steps=3", "warm_start.batch_size=4"),
    *("trainer.max_steps=2", "trainer.num_generations=4", "trainer.per_device_batch_size=4"),
    *("trainer.max_completion_length=24", "sampling.max_new_tokens=24"),
    *("prompts.plan_pattern=null", "env.parser.whole_answer_without_marker=true"),
    *("reward.rules.truncated=score", "reward.rules.no_plan=-1.0"),
    *("evaluation.max_episodes=2", "evaluation.bootstrap_samples=100"),
    *("monitors=off", "logging.wandb=disabled", "logging.tensorboard=false"),
)
GRPO = ("trainer.episodes_per_step=4", "trainer.save_steps=1")
STEPS = 24
# The embedded default, with four groups a step: each of two workers holds two.
DEFAULT = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    *("reward.rules.truncated=score", "monitors=off"),
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=1"),
    # So many that both are killed long before the last one.
    *(f"trainer.max_steps={STEPS}", f"trainer.save_steps={STEPS}", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=4", "trainer.per_device_batch_size=16"),
    *("trainer.lr_scheduler_type=constant", "trainer.max_completion_length=16"),
    *("sampling.max_new_tokens=16", "evaluation.max_episodes=2", "evaluation.decodings=[greedy]"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'nextchapter[ray]'"
    ),
]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Train:
    """Runs `nextchapter train` in a folder that all tests here share; `processes` by torchrun."""
    folder = tmp_path_factory.mktemp("pooled")

    def run(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
        several = ["torch.distributed.run", "--nproc_per_node", str(processes)]
        several += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m"]
        how = [] if processes == 1 else several
        done = subprocess.run(
            [sys.executable, "-m", *how, "launch", "train", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
            timeout=400,
            check=False,
        )
        done.args = folder
        return done

    return run


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [m for m in map(json.loads, lines) if "reward" in m]


def rows(folder: Path) -> dict[Any, float]:
    table = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["rows"]
    return {(r["name"], r.get("decoding")): r["improvement"]["mean"] for r in table}


def test_a_run_with_a_pool_learns_and_judges_as_one_that_scores_itself(train: Train) -> None:
    folders = []
    for scorer, more in (("ranks", ()), ("ray", ("scorer.pool.workers=2",))):
        # Caches of their own, or the second run would find the agent of the first.
        own = (f"run_dir={scorer}", f"scorer={scorer}", f"cache_dir=cache_{scorer}")
        done = train(*own, *more, *SMALL, *GRPO)
        assert done.returncode == 0, done.stderr[-3000:]
        folders.append(Path(done.args) / scorer)
        assert "scoring noise:" in done.stderr + done.stdout
    alone, pooled = folders
    assert [m["step"] for m in metrics(pooled)] == [1, 2]
    for found, expected in zip(metrics(pooled), metrics(alone), strict=True):
        for name in ("reward", "improvement", "reward_std", "grad_norm"):
            assert found[name] == pytest.approx(expected[name], abs=TOLERANCE)
    assert all(m["time/waiting"] > 0 for m in metrics(pooled))
    assert rows(pooled) == pytest.approx(rows(alone), abs=TOLERANCE)
    # The token of its own cluster stays between the processes.
    told = [p for p in pooled.rglob("*") if p.is_file() and b"AUTH_TOKEN" in p.read_bytes()]
    assert not told


def test_a_run_under_which_a_worker_and_then_a_node_are_killed_ends_as_the_undisturbed_one(
    train: Train, repository: Path
) -> None:
    # Caches of their own, or the second run would find the agent of the first.
    done = train("run_dir=whole", "scorer=ranks", "cache_dir=cache_whole", *DEFAULT)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = Path(done.args)
    killer = Path(__file__).with_name("pool_killer.py")
    done = subprocess.run(
        [sys.executable, str(killer), str(folder), "cache_dir=cache_pooled", *DEFAULT],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        timeout=1500,
        check=False,
    )
    # Written when all is over; what Ray's own threads say after the shutdown counts for nothing.
    assert (folder / "seen.json").is_file(), done.stderr[-3000:]
    seen = json.loads((folder / "seen.json").read_text())
    log = (folder / "training.log").read_text()
    assert seen["status"] == 0, log[-3000:]
    # Each held a group when it was killed, which went to another.
    assert seen["lost"] >= 2, log[-3000:]
    assert seen["worker_killed_after_step"] < seen["node_killed_after_step"] < STEPS

    whole, pooled = folder / "whole", folder / "pooled"
    assert [m["step"] for m in metrics(pooled)] == list(range(1, STEPS + 1))
    for found, expected in zip(metrics(pooled), metrics(whole), strict=True):
        for name in ("reward", "improvement", "reward_std", "grad_norm"):
            assert found[name] == pytest.approx(expected[name], abs=TOLERANCE)
    assert rows(pooled) == pytest.approx(rows(whole), abs=TOLERANCE)
    assert largest_difference(pooled, whole) < WEIGHT_TOLERANCE


def largest_difference(first: Path, second: Path) -> float:
    """Between the trained weights of two runs."""
    from safetensors.torch import load_file

    one, other = (load_file(run / "policy" / "model.safetensors") for run in (first, second))
    difference = max((one[name] - other[name]).abs().max().item() for name in one)
    print(f"largest difference between the weights of {first.name} and {second.name}: {difference}")
    return difference


def test_several_processes_need_a_cluster_to_share(train: Train) -> None:
    done = train("run_dir=two", "scorer=ray", *SMALL, *GRPO, processes=2)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("nextchapter train:")]
    assert len(said) == 1
    assert "scorer.pool.address: several processes share one pool" in said[0]
