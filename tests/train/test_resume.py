"""`nextchapter train`, killed or asked to stop, goes on to where the uninterrupted run ends."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from train.step_times import PARTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
TRAINERS = ("grpo", "ppo")
TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    # Whatever is answered is a plan and is scored, so that there is something to learn.
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    "reward.rules.truncated=score",
    # Probes at the start and with every checkpoint, which must not move the random numbers; nothing
    # that they find ends the run.
    *("monitors=off", "monitors.every_steps=2", "+monitors.num_episodes=2"),
    *("+monitors.attempts=2", "data.validation_books=1"),
    # Five episodes for six rollouts of two: the run goes through them more than twice.
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=2"),
    *("trainer.max_steps=6", "trainer.save_steps=2", "trainer.num_generations=4"),
    *("trainer.lr_scheduler_type=linear", "trainer.max_completion_length=24"),
    *("sampling.max_new_tokens=24", "evaluation.max_episodes=2"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)
# PPO learns three steps from a rollout: checkpoints fall between them, with the rollout in them.
OF_TRAINER = {
    "grpo": ("trainer.episodes_per_step=2", "trainer.per_device_batch_size=8"),
    "ppo": (
        *("trainer.episodes_per_rollout=2", "trainer.per_device_batch_size=8"),
        *("trainer.epochs_per_rollout=3", "trainer.minibatches_per_epoch=1"),
    ),
}
# Measured by the clock.
TIMES = {"time_s", "step_time", *(f"time/{part}" for part in PARTS)}
CLOCKED = ("throughput/", "memory/", "cost/")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [*NEXTCHAPTER, "train", *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=600)
    return process.returncode, errors


@pytest.fixture(scope="module", params=TRAINERS)
def trainer(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return (f"trainer={request.param}", *OF_TRAINER[request.param])


@pytest.fixture(scope="module")
def whole(trainer: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    status, errors = finish(start(folder, *trainer, *TINY, "run_dir=run"))
    assert status == 0, errors[-3000:]
    return folder / "run"


@pytest.fixture
def begun(trainer: tuple[str, ...], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The same run in a folder of its own, with nothing kept from the other."""
    process = start(tmp_path, *trainer, *TINY, "run_dir=run")
    yield process
    process.kill()
    process.wait()


def wait_until(process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> None:
    while not is_reached():
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.001)


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in TIMES and not k.startswith(CLOCKED)}
        for line in lines
    ]


def logged_steps(run: Path) -> int:
    """Optimizer steps that are done, as far as the log says; a probe is logged before its step."""
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"learning_rate"') if path.exists() else 0


def assert_same_end(run: Path, whole: Path) -> None:
    # The probes at 0, 2, 4 and 6, and each step once.
    assert [line["step"] for line in metrics(run)] == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert metrics(run) == metrics(whole)
    weights = Path("policy", "model.safetensors")
    names = {p.name for p in (whole / "checkpoints" / "checkpoint-6").iterdir()}
    states = names & {"optimizer.pt", "scheduler.pt", "rng_state.pth", "parts.json"}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "parts.json"} == states
    last = [Path("checkpoints", "checkpoint-6", name) for name in sorted(states)]
    for path in (weights, Path("evaluation.json"), Path("tables", "rollouts.jsonl"), *last):
        assert (run / path).read_bytes() == (whole / path).read_bytes(), path
    # The weights have moved since the first checkpoint, so that their equality says something.
    first = json.loads((run / "checkpoints" / "checkpoint-4" / "checkpoint.json").read_text())
    end = json.loads((run / "checkpoints" / "checkpoint-6" / "checkpoint.json").read_text())
    assert first["files"]["model.safetensors"] != end["files"]["model.safetensors"]


def early(run: Path) -> bool:
    """The run is being prepared: no step is done."""
    return (run / "checkpoints").exists()


def in_a_rollout(run: Path) -> bool:
    """One step after a checkpoint is done, and the next one under way."""
    if logged_steps(run) < 3:
        return False
    time.sleep(0.15)
    return True


def while_saving(run: Path) -> bool:
    return (run / "checkpoints" / ".saving" / "checkpoint-4" / "model.safetensors").exists()


def after_the_last_step(run: Path) -> bool:
    return (run / "checkpoints" / "checkpoint-6").exists()


@pytest.mark.parametrize("moment", [early, in_a_rollout, while_saving, after_the_last_step])
def test_a_killed_run_goes_on_to_the_same_end(
    begun: subprocess.Popen[str],
    moment: Callable[[Path], bool],
    tmp_path: Path,
    whole: Path,
) -> None:
    wait_until(begun, lambda: moment(tmp_path / "run"))
    begun.kill()
    assert finish(begun)[0] == -signal.SIGKILL
    status, errors = finish(start(tmp_path, "resume=run"))
    assert status == 0, errors[-3000:]
    assert_same_end(tmp_path / "run", whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_asked_to_leave_saves_and_goes_on_to_the_same_end(
    begun: subprocess.Popen[str], number: signal.Signals, tmp_path: Path, whole: Path
) -> None:
    wait_until(begun, lambda: logged_steps(tmp_path / "run") >= 3)
    os.kill(begun.pid, number)
    status, errors = finish(begun)
    assert status == 75
    assert errors.splitlines()[-1] == (
        f"nextchapter train: stopped by {number.name}, with a checkpoint; "
        "go on with: nextchapter train resume=run"
    )
    # At the end of the step that was under way, not at the next multiple of save_steps.
    steps = {int(p.name.removeprefix("checkpoint-")) for p in tmp_path.glob("run/checkpoints/*")}
    assert max(steps) == logged_steps(tmp_path / "run") < 6
    status, errors = finish(start(tmp_path, "resume=run"))
    assert status == 0, errors[-3000:]
    assert_same_end(tmp_path / "run", whole)


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_ends_alike(
    begun: subprocess.Popen[str], tmp_path: Path, whole: Path
) -> None:
    last = tmp_path / "run" / "checkpoints" / "checkpoint-4"
    wait_until(begun, last.exists)
    begun.kill()
    finish(begun)
    content = bytearray((last / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (last / "model.safetensors").write_bytes(content)
    # Another model, first: the same weights in another precision.
    status, errors = finish(start(tmp_path, "resume=run", "generator.model.dtype=bfloat16"))
    assert status == 2
    assert "checkpoint-4: model.safetensors is not what was saved" in errors
    assert "checkpoint-2: was made from another policy model" in errors.splitlines()[-1]
    status, errors = finish(start(tmp_path, "resume=run"))
    assert status == 0, errors[-3000:]
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4.damaged")
    assert_same_end(tmp_path / "run", whole)


def test_a_full_disk_ends_a_run_in_one_line_and_costs_no_checkpoint(
    begun: subprocess.Popen[str], tmp_path: Path, whole: Path
) -> None:
    wait_until(begun, (tmp_path / "run" / "checkpoints" / "checkpoint-2").exists)
    # From now on no file of this process grows beyond 1 MB; the weights have 2.
    resource.prlimit(begun.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    status, errors = finish(begun)
    assert status == 2
    line = errors.splitlines()[-1]
    assert line.startswith("nextchapter train: run/checkpoints: checkpoint-4 could not be saved (")
    assert line.endswith("go on with nextchapter train resume=run")
    assert {p.name for p in tmp_path.glob("run/checkpoints/*")} == {"checkpoint-2"}
    status, errors = finish(start(tmp_path, "resume=run"))
    assert status == 0, errors[-3000:]
    assert_same_end(tmp_path / "run", whole)


def test_a_stage_before_reinforcement_is_left_at_once(
    trainer: tuple[str, ...], tmp_path: Path
) -> None:
    taught = [item for item in TINY if item != "warm_start=null"]
    process = start(tmp_path, *trainer, *taught, "run_dir=run", "warm_start.max_steps=100000")
    try:
        wait_until(process, lambda: bool(list(tmp_path.glob(".cache/nextchapter/warm_start/.*"))))
        os.kill(process.pid, signal.SIGTERM)
        status, errors = finish(process)
    finally:
        process.kill()
    assert status == 75
    assert errors.splitlines()[-1].startswith("nextchapter train: stopped by SIGTERM; go on with")


def test_a_run_without_a_reachable_wandb_goes_on(trainer: tuple[str, ...], tmp_path: Path) -> None:
    tmp_path.joinpath("work").mkdir()
    online = [item for item in TINY if not item.startswith("logging.wandb")]
    environment = {**os.environ, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    command = [*NEXTCHAPTER, "train", *trainer, *online, "logging.wandb=online", "run_dir=run"]
    done = subprocess.run(
        command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the run goes on without it" in done.stderr + done.stdout
    assert logged_steps(tmp_path / "work" / "run") == 6
