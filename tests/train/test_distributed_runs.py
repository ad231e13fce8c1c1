"""`nextchapter train` under torchrun, as a user runs it: two real processes, the whole run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = (
    "experiment=smoke",
    *("data.train_books=6", "data.test_books=2", "data.demonstration_books=10"),
    *("warm_start.max_steps=3", "warm_start.batch_size=4"),
    *("trainer.max_steps=2", "trainer.save_steps=1", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=4", "trainer.per_device_batch_size=4"),
    *("trainer.max_completion_length=24", "sampling.max_new_tokens=24"),
    # Whatever an untrained agent says is a plan, so that there is something to learn from.
    *("prompts.plan_pattern=null", "env.parser.whole_answer_without_marker=true"),
    *("reward.rules.truncated=score", "reward.rules.no_plan=-1.0"),
    *("evaluation.max_episodes=4", "evaluation.bootstrap_samples=100"),
    # Nothing that so small a run does is good enough for the monitors.
    *("monitors=off", "logging.wandb=disabled", "logging.tensorboard=false"),
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs two processes of `nextchapter train` in a folder that all tests here share."""
    folder = tmp_path_factory.mktemp("torchrun")
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "launch"]
        done = subprocess.run(
            [*command, "train", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        done.args = folder
        return done

    return run


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("distributed", ["none", "zero2", "zero3"])
def test_a_run_of_two_processes_is_written_once_and_resumes(
    torchrun: Run, distributed: str
) -> None:
    asked = [f"run_dir={distributed}", f"distributed={distributed}", *SMALL]
    done = torchrun(*asked)
    assert done.returncode == 0, done.stderr[-3000:]
    # Only one process speaks, and only one writes.
    assert done.stdout.count("Improvement on unseen books") == 1
    assert done.stderr.count("reinforcement: done") == 1
    run = Path(done.args) / distributed
    steps = [m["step"] for m in metrics(run) if "reward" in m]
    assert steps == [1, 2]
    assert {path.name for path in run.parent.iterdir() if path.is_dir()} <= {
        *("none", "zero2", "zero3", ".cache")
    }
    # Whole weights, for anybody's from_pretrained, also those of a checkpoint.
    untrained = load_file(run / "warm_start" / "model.safetensors")
    for folder in (run / "policy", run / "checkpoints" / "checkpoint-2"):
        trained = load_file(folder / "model.safetensors")
        # A checkpoint under ZeRO may hold a tied weight twice.
        assert trained.keys() - untrained.keys() <= {"lm_head.weight"}
        assert {n: trained[n].shape for n in untrained} == {
            n: w.shape for n, w in untrained.items()
        }
        assert any(not trained[name].equal(weight) for name, weight in untrained.items())
        AutoModelForCausalLM.from_pretrained(folder)
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    assert {row["name"] for row in rows} >= {"untrained", "trained", "true_plan"}

    # On from its last state; the longer run is another policy, so the cache does not have it.
    again = torchrun(f"resume={distributed}", "trainer.max_steps=3")
    assert again.returncode == 0, again.stderr[-3000:]
    assert [m["step"] for m in metrics(run) if "reward" in m] == [1, 2, 3]


def test_rewards_of_the_first_step_do_not_depend_on_the_sharding(torchrun: Run) -> None:
    folders = []
    for distributed in ("none", "zero2", "zero3"):
        done = torchrun(f"run_dir=first_{distributed}", f"distributed={distributed}", *SMALL)
        assert done.returncode == 0, done.stderr[-3000:]
        folders.append(Path(done.args) / f"first_{distributed}")
    first = [metrics(folder)[0] for folder in folders]
    for other in first[1:]:
        assert other["reward"] == pytest.approx(first[0]["reward"], abs=1e-3)
        assert other["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-3)


def test_an_error_is_one_line_and_status_2(torchrun: Run) -> None:
    done = torchrun("run_dir=bad", "seed=-1", *SMALL)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("nextchapter train:")]
    assert len(said) == 1 and "seed: should be greater than or equal to 0" in said[0]
    # torchrun stops (-15) whoever has not ended by itself when the first one has.
    statuses = set(re.findall(r"exitcode\s*:\s*(-?\d+)", done.stderr))
    assert "2" in statuses and statuses <= {"2", "-15"}


def test_a_folder_that_holds_a_run_is_refused_by_all(torchrun: Run) -> None:
    folder = Path(torchrun("run_dir=bad", "seed=-1", *SMALL).args)
    (folder / "taken").mkdir()
    (folder / "taken" / "config.yaml").write_text("seed: 1\n")
    done = torchrun("run_dir=taken", *SMALL)
    said = [line for line in done.stderr.splitlines() if line.startswith("nextchapter train:")]
    assert len(said) == 1 and "taken: holds a run already" in said[0]
    assert (folder / "taken" / "config.yaml").read_text() == "seed: 1\n"
