"""The main job as a user runs it, in small: `nextchapter train experiment=smoke`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.cli import CONFIG_DIR

NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")


def nextchapter(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*NEXTCHAPTER, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one smoke run; its parent is where it was started."""
    folder = tmp_path_factory.mktemp("smoke")
    nextchapter(folder, "train", "experiment=smoke", "run_dir=run")
    return folder / "run"


def rows_of(path: Path) -> dict[tuple[str, str | None], dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {(row["name"], row.get("decoding")): row for row in rows}


@pytest.mark.timeout(1200)
def test_a_run_prints_and_writes_the_whole_table(smoke: Path) -> None:
    rows = rows_of(smoke / "evaluation.json")
    assert set(rows) == {
        *((name, how) for name in ("untrained", "trained") for how in ("greedy", "sampled")),
        *((f"{name}_plan", None) for name in ("empty", "shuffled", "inferable", "true")),
        ("random_words", None),
    }
    empty = rows["empty_plan", None]["improvement"]
    assert (empty["mean"], empty["ci95"], set(empty["spread"].values())) == (0.0, [0.0, 0.0], {0.0})
    assert all(row["episodes"] == 100 and row["books"] == 20 for row in rows.values())
    for decoding in ("greedy", "sampled"):
        untrained = rows["untrained", decoding]["improvement"]["ci95"]
        trained = rows["trained", decoding]["improvement"]["ci95"]
        # The warm start is uninformed; what the agent can do, it has learned by reinforcement.
        assert untrained[1] < 0
        assert trained[0] > untrained[1]
        assert trained[0] > rows["shuffled_plan", None]["improvement"]["ci95"][1]


@pytest.mark.timeout(1200)
def test_the_shipped_generator_uses_every_part_of_a_plan(smoke: Path) -> None:
    rows = rows_of(smoke / "evaluation.json")
    ablations = json.loads((smoke / "evaluation.json").read_text(encoding="utf-8"))["ablations"]
    assert len(ablations) == 4
    lowest = rows["true_plan", None]["improvement"]["ci95"][0]
    assert all(row["improvement"]["ci95"][1] < lowest for row in ablations)
    assert rows["inferable_plan", None]["improvement"]["ci95"][0] > 0
    assert rows["shuffled_plan", None]["improvement"]["ci95"][1] < 0


@pytest.mark.timeout(1200)
def test_a_run_leaves_what_its_readme_names(smoke: Path) -> None:
    for name in ("config.yaml", "revision.json", "metrics.jsonl", "learning_curve.png"):
        assert (smoke / name).stat().st_size > 0
        assert f"`{name}`" in (smoke / "README.md").read_text(encoding="utf-8")
    assert "### Gain per token" in (smoke / "examples.md").read_text(encoding="utf-8")
    curve = (smoke / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([line for line in curve if "improvement" in line]) == 12
    assert len([line for line in curve if "monitor/gain" in line]) == 2
    assert (smoke / "tables" / "rollouts.jsonl").stat().st_size > 0
    probes = (smoke / "tables" / "monitors.jsonl").read_text(encoding="utf-8").splitlines()
    verdicts = [json.loads(line)["verdict"] for line in probes]
    assert set(verdicts) == {"start", "ok"}


@pytest.mark.timeout(1200)
def test_the_trained_policy_and_every_checkpoint_load_with_from_pretrained(smoke: Path) -> None:
    folders = [smoke / "policy", *(smoke / "checkpoints").glob("checkpoint-*")]
    assert len(folders) >= 2
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert len(tokenizer) == model.config.vocab_size


@pytest.mark.timeout(1200)
def test_a_checkpoint_of_the_run_can_be_evaluated_again(smoke: Path) -> None:
    nextchapter(
        smoke.parent,
        "evaluate",
        "run=run",
        "checkpoint=checkpoint-12",
        "evaluation.max_episodes=10",
        "run_dir=again",
    )
    rows = rows_of(smoke.parent / "again" / "evaluation.json")
    assert rows["trained", "greedy"]["episodes"] == 10


@pytest.mark.timeout(1200)
def test_a_run_is_evaluated_in_another_env_with_its_cost(smoke: Path) -> None:
    few = "evaluation.max_episodes=6"
    nextchapter(smoke.parent, "evaluate", "run=run", "env=feedback", few, "run_dir=elsewhere")
    row = rows_of(smoke.parent / "elsewhere" / "evaluation.json")["trained", "greedy"]
    assert row["episodes"] == 6
    # A draft and its verification at least, two refinements and their verifications at most.
    assert 2 <= row["play"]["cost/policy/calls"] <= 5
    assert row["play"]["cost/policy/generated_tokens"] > 0


@pytest.mark.timeout(1200)
def test_a_chapter_is_written_with_the_agent_of_a_run(smoke: Path) -> None:
    meant = ("book=test-3", "chapter=2", "run_dir=written")
    shown = nextchapter(smoke.parent, "write", "run=run", "env=agents_room", *meant)
    text = (smoke.parent / "written" / "chapter.md").read_text(encoding="utf-8")
    assert "storyworld-0-test-3/2" in shown and "Scratchpad" in shown
    for role in ("conflict", "character", "setting", "plot", "reasoner"):
        assert f"{role} (policy, round" in text
    assert "Chapter" in text.partition("## Chapter")[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_collaboration_trains_for_a_few_steps(tmp_path: Path) -> None:
    small = (
        "data.demonstration_books=20 data.train_books=20 data.test_books=4 warm_start.max_steps=3"
    )
    steps = "trainer.max_steps=2 trainer.save_steps=2 trainer.episodes_per_step=2 monitors=off"
    batches = "trainer.per_device_batch_size=16 evaluation.max_episodes=4"
    collaborations = ("feedback", "debate", "divide_and_conquer", "augment", "agents_room")
    for env in (*collaborations, "layered", "self_consistency"):
        nextchapter(
            tmp_path,
            *("train", "experiment=smoke", f"env={env}", f"run_dir={env}"),
            *(small.split() + steps.split() + batches.split()),
        )
        rows = rows_of(tmp_path / env / "evaluation.json")
        assert rows["trained", "sampled"]["play"]["cost/policy/calls"] > 1
        logged = (tmp_path / env / "metrics.jsonl").read_text(encoding="utf-8")
        assert logged.count("cost/policy/calls") == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_reward_trains_under_both_trainers(tmp_path: Path) -> None:
    rewards = sorted(path.stem for path in (CONFIG_DIR / "reward").glob("*.yaml"))
    small = (
        "data.demonstration_books=20 data.train_books=20 data.test_books=4 warm_start.max_steps=3"
    )
    steps = "trainer.max_steps=4 trainer.save_steps=4 monitors=off evaluation.max_episodes=4"
    steps += " trainer.per_device_batch_size=16"
    # Whatever an agent answers that has hardly been taught is a plan, so that there is a reward.
    steps += " env.parser.whole_answer_without_marker=true prompts.plan_pattern=null"
    steps += " reward.rules.truncated=score"
    for trainer, episodes in (("grpo", "episodes_per_step"), ("ppo", "episodes_per_rollout")):
        nextchapter(
            tmp_path,
            *("train", "--multirun", "experiment=smoke", f"hydra.sweep.dir=sweep/{trainer}"),
            *(f"trainer={trainer}", f"reward={','.join(rewards)}", f"trainer.{episodes}=4"),
            *(small.split() + steps.split()),
        )
    trained = list(tmp_path.glob("sweep/*/*/evaluation.json"))
    assert len(trained) == 2 * len(rewards) >= 20
    for found in trained:
        rows = rows_of(found)
        assert rows["trained", "sampled"]["episodes"] == 4
        terms = yaml.safe_load((found.parent / "config.yaml").read_text())["reward"]["terms"]
        logged = (found.parent / "metrics.jsonl").read_text(encoding="utf-8")
        assert all(f'"reward/{term}"' in logged for term in terms)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ppo_goes_through_the_same_stages_and_leaves_the_same_files(tmp_path: Path) -> None:
    small = (
        "data.demonstration_books=20 data.train_books=20 data.test_books=4 warm_start.max_steps=3"
    )
    steps = "trainer.max_steps=8 trainer.save_steps=6 evaluation.max_episodes=6"
    nextchapter(
        tmp_path,
        *("train", "experiment=smoke", "trainer=ppo", "run_dir=run"),
        *small.split(),
        *steps.split(),
    )
    rows = rows_of(tmp_path / "run" / "evaluation.json")
    assert rows["trained", "greedy"]["episodes"] == 6
    logged = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    # Two rollouts of four optimizer steps.
    assert len([line for line in logged if "policy_loss" in line]) == 8
    assert len([line for line in logged if "explained_variance" in line]) == 2
    last = tmp_path / "run" / "checkpoints" / "checkpoint-6"
    for folder in (tmp_path / "run" / "policy", last):
        AutoModelForCausalLM.from_pretrained(folder)
    assert (last / "critic.safetensors").is_file()


@pytest.mark.timeout(1200)
def test_a_second_run_takes_every_stage_from_the_cache(smoke: Path) -> None:
    nextchapter(smoke.parent, "train", "experiment=smoke", "run_dir=second")
    second = smoke.parent / "second"
    assert not list(second.glob("checkpoints/*"))
    assert (second / "evaluation.json").read_bytes() == (smoke / "evaluation.json").read_bytes()
