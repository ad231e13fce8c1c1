"""A whole run whose plans a second frozen generator judges as well."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.models import save_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    # Whatever is answered is a plan and is scored.
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    "reward.rules.truncated=score",
    *("monitors.every_steps=2", "monitors.num_episodes=2", "monitors.attempts=2"),
    # What so small a run says is beyond every bound that stops.
    "monitors.limits={}",
    *("data.train_books=1", "data.demonstration_books=2", "data.validation_books=1"),
    *("data.test_books=2", "trainer.max_steps=2", "trainer.num_generations=4"),
    *("trainer.episodes_per_step=2", "trainer.per_device_batch_size=8"),
    *("trainer.max_completion_length=24", "sampling.max_new_tokens=24"),
    *("evaluation.max_episodes=2", "evaluation.bootstrap_samples=100"),
    *("logging.wandb=disabled", "logging.tensorboard=false", "run_dir=run"),
)


def train(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NEXTCHAPTER, "train", *TINY, *overrides],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plans_are_judged_by_a_generator_that_nothing_is_trained_on(
    tmp_path: Path,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    # Of another family, vocabulary and window than the run's own.
    second = tmp_path / "second"
    save_model(make_model("gpt2", seed=5, n_positions=2048), tokenizer, second)
    weights = hashlib.sha256((second / "model.safetensors").read_bytes()).hexdigest()
    done = train(tmp_path, f"monitors.second_generator={{path: {second}}}")
    assert done.returncode == 0, done.stderr[-3000:]

    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    probes = [line for line in map(json.loads, lines) if "monitor/second_gain" in line]
    assert [probe["step"] for probe in probes] == [0, 2]
    for probe in probes:
        # The gain over an empty plan, which is worth exactly 0, is the gain under the first one.
        gain = probe["monitor/margin_empty"]
        assert probe["monitor/second_gap"] == pytest.approx(gain - probe["monitor/second_gain"])
        assert probe["monitor/second_gain"] != pytest.approx(gain)
    rows = (tmp_path / "run" / "tables" / "monitors.jsonl").read_text(encoding="utf-8")
    assert '"second_gap"' in rows
    assert hashlib.sha256((second / "model.safetensors").read_bytes()).hexdigest() == weights


def test_a_second_generator_that_is_not_there_is_one_line_before_any_work(tmp_path: Path) -> None:
    done = train(tmp_path, "monitors.second_generator={path: nowhere/model}")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("nextchapter train: monitors.second_generator")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
