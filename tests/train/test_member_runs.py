"""`nextchapter train` and `evaluate` with a member behind an endpoint: what it was paid is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
KEY = "sk-a-secret-of-the-test"
TINY = (
    *("warm_start=null", "sft_baseline=null", "threads=1", "scorer.noise_episodes=0"),
    *("env.parser.whole_answer_without_marker=true", "prompts.plan_pattern=null"),
    *("reward.rules.truncated=score", "monitors=off"),
    *("data.train_books=1", "data.demonstration_books=2", "data.test_books=2"),
    *("trainer.max_steps=2", "trainer.save_steps=2", "trainer.num_generations=2"),
    *("trainer.episodes_per_step=2", "trainer.per_device_batch_size=4"),
    *("trainer.max_completion_length=16", "sampling.max_new_tokens=16"),
    *("evaluation.max_episodes=2", "evaluation.bootstrap_samples=100", "evaluation.num_written=0"),
    *("logging.wandb=disabled", "logging.tensorboard=false"),
)


def nextchapter(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*NEXTCHAPTER, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"KEY_OF_THE_TEST": KEY},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_a_run_tells_what_a_member_behind_an_endpoint_was_asked_and_paid(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    def handle(server: Any, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        if len(server.asked) == 3:
            return 408, b"", {}
        choice = {"message": {"content": "Say where."}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": 4}
        return 200, json.dumps({"choices": [choice], "usage": usage}).encode(), {}

    server = serve(handle)
    member = (
        f"{{_target_: envs.members.endpoint.Endpoint, base_url: '{server.url}', model: m, "
        "api_key_env: KEY_OF_THE_TEST, prices: {read: 1000.0}}"
    )
    cast = [f"+env.cast.members.served={member}", "+env.cast.roles={verifier: served}"]
    said = nextchapter(tmp_path, "train", "env=feedback", *cast, *TINY, "run_dir=run")
    run, asked = tmp_path / "run", len(server.asked)
    found = json.loads((run / "members.json").read_text(encoding="utf-8"))["served"]
    assert (found["requests"], found["retries"], found["answers"]) == (asked, 1, asked - 1)
    assert found["read_tokens"] == 20 * (asked - 1)
    assert found["money"] == pytest.approx(0.02 * (asked - 1))
    log = (run / "nextchapter.log").read_text(encoding="utf-8")
    assert log.count(f"served: requests: {asked} (1 tried again)") == 1

    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [m for m in map(json.loads, lines) if "reward" in m]
    # Two attempts at each of two episodes a step; one of the first step was asked twice.
    answers = [round(4 * m["cost/served/calls"]) for m in steps]
    assert [m["member/served/answers"] for m in steps] == answers and min(answers) > 0
    assert [m["member/served/requests"] for m in steps] == [answers[0] + 1, answers[1]]

    again = nextchapter(
        tmp_path, "evaluate", "run=run", "run_dir=again", "evaluation.max_episodes=1"
    )
    found = json.loads((tmp_path / "again" / "members.json").read_text(encoding="utf-8"))
    assert found["served"]["requests"] == len(server.asked) - asked > 0

    asked = len(server.asked)
    (row, *_) = (run / "improvements.csv").read_text(encoding="utf-8").splitlines()[1:]
    book = next(cell for cell in row.split(",") if "/" in cell).rsplit("/", 1)
    which = [f"book={book[0]}", f"chapter={book[1]}", "writing.max_new_tokens=4"]
    again += nextchapter(tmp_path, "write", "run=run", "run_dir=written", *which)
    found = json.loads((tmp_path / "written" / "members.json").read_text(encoding="utf-8"))
    assert found["served"]["requests"] == len(server.asked) - asked > 0
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert KEY not in said + again and not any(KEY.encode() in p.read_bytes() for p in kept)
