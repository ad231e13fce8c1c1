"""An evaluation that is killed goes on where it was."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.journal import Journal
from train.models import save_model

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
SMALL = (
    *("env=solo", "env.parser.whole_answer_without_marker=true", "warm_start=null"),
    *("generator.model.path=generator", "policy.model={path: agent}", "sft_baseline=null"),
    *("data.test_books=20", "data.train_books=5", "data.demonstration_books=5", "monitors=off"),
    *("evaluation.decodings=[sampled]", "evaluation.batch_size=5", "sampling.max_new_tokens=12"),
    *("evaluation.writing.max_new_tokens=16", "evaluation.bootstrap_samples=200"),
)
"""A hundred episodes of the embedded world, in batches of five."""
SCRIPT = Path(__file__).with_name("resumable_evaluation.py")


def start(folder: Path, seconds_per_batch: float) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(seconds_per_batch)])


def kept_batches(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("journal/*.jsonl"))


@pytest.mark.timeout(300)
def test_an_evaluation_survives_a_kill_and_scores_nothing_twice(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(killed, 0.2)
    deadline = time.monotonic() + 120
    while kept_batches(killed) < 8 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = kept_batches(killed)
    assert not (killed / "evaluation.json").exists()

    both = [start(killed, 0.0), start(whole, 0.0)]
    assert [process.wait() for process in both] == [0, 0]
    assert (killed / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
    # 24 episodes in batches of four: the agent, four rows of plans, and no context.
    assert 8 <= kept < kept_batches(killed) == 6 * (1 + 4 + 1)
    answered = Counter((killed / "answered.txt").read_text().splitlines())
    assert len(answered) == 24 and set(answered.values()) == {1}
    # A plan was scored once; of the batch at work when the kill came, at most the four episodes
    # twice, and baselines, which are the likelihood store's to keep, once for each process.
    lines = (killed / "scored.txt").read_text().splitlines()
    expected = (whole / "scored.txt").read_text().splitlines()
    again = Counter(lines) - Counter(expected)
    baselines = 24
    assert sum(again.values()) <= 4 + baselines


def command(folder: Path, cache: str, run: str) -> list[str]:
    return [*NEXTCHAPTER, "evaluate", *SMALL, f"cache_dir={cache}", f"run_dir={folder / run}"]


def keys_of(cache: Path) -> list[str]:
    (path,) = cache.glob("evaluations/*.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    # A kill may have cut one short.
    return [json.loads(line)["key"] for line in lines if line.endswith("}")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_ends_after_a_kill_as_if_there_had_been_none(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    for seed, name in enumerate(("generator", "agent")):
        model = make_model(seed=seed, max_position_embeddings=2048, initializer_range=0.2)
        save_model(model, tokenizer, tmp_path / name)
    process = subprocess.Popen(
        command(tmp_path, "cache", "killed"), cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    while not any(
        path.read_bytes().count(b"\n") >= 70
        for path in (tmp_path / "cache").glob("evaluations/*.jsonl")
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(keys_of(tmp_path / "cache"))

    told = {
        run: subprocess.run(
            command(tmp_path, cache, run), cwd=tmp_path, capture_output=True, text=True, check=True
        ).stderr
        for cache, run in (("cache", "killed"), ("fresh", "whole"))
    }
    for name in ("evaluation.json", "improvements.csv", "token_gains.jsonl", "comparisons.jsonl"):
        resumed, whole = (tmp_path / run / name for run in ("killed", "whole"))
        assert resumed.read_bytes() == whole.read_bytes(), name
    # Every batch is kept once, and the same ones as without a kill.
    keys = keys_of(tmp_path / "cache")
    assert len(set(keys)) == len(keys) > kept >= 70
    assert set(keys) == set(keys_of(tmp_path / "fresh"))
    # The first 20 batches are answers with their scores, the others scores: of 12 times 100 steps,
    # what was kept is what had been done before.
    before = re.search(r"evaluate: (\d+) of 1200 had been done before", told["killed"])
    assert before is not None and int(before.group(1)) == 5 * (kept + 20)
    assert "had been done before" not in told["whole"]


def test_a_line_that_a_kill_cut_short_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"generator": "a"})
    journal.keep({"batch": 1}, [1.5])
    assert journal.path is not None
    with journal.path.open("a") as file:
        file.write('{"key": "torn')
    again = Journal(tmp_path, {"generator": "a"})
    assert again.get({"batch": 1}) == [1.5]
    again.keep({"batch": 2}, [2.5])
    assert Journal(tmp_path, {"generator": "a"}).get({"batch": 2}) == [2.5]


def test_another_checkpoint_or_another_generator_is_another_entry(tmp_path: Path) -> None:
    Journal(tmp_path, {"generator": "a"}).keep({"agent": "a"}, [1.0])
    assert Journal(tmp_path, {"generator": "a"}).get({"agent": "b"}) is None
    assert Journal(tmp_path, {"generator": "b"}).get({"agent": "a"}) is None


def test_without_a_folder_nothing_is_kept() -> None:
    journal = Journal(None, {})
    journal.keep({"batch": 1}, [1.0])
    assert journal.get({"batch": 1}) is None
