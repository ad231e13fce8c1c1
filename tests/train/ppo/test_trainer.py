"""PPO as a whole: who learns when, what is logged, and how a run goes on after a crash."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel, TrainerCallback

from envs.types import Rollout
from rewards.likelihood.dense import DenseScorer
from rewards.types import Score
from train.ppo.settings import PpoSettings, divide

MakeModel = Callable[..., PreTrainedModel]
Train = Callable[..., PreTrainedModel]
LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
STEPS_PER_ROLLOUT = 4


class Logged(TrainerCallback):
    """Keeps what the trainer logs, and what the policy's weights were after each step."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []
        self.weights: list[dict[str, bytes]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.logs.append(dict(logs))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.weights.append(weights_of(model))


def weights_of(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


class WordReward:
    """One point for each time that the answer says a letter: easy to learn, and no generator."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [
            Score(r.episode.episode_id, float(r.reply.text.count("e")), None, None, None)
            for r in rollouts
        ]


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_generator_is_byte_identical_after_training_and_policy_and_critic_are_not(
    make_model: MakeModel, train: Train, critic: str
) -> None:
    generator, policy = make_model(seed=1), make_model(seed=2)
    before, policy_before = weights_of(generator), weights_of(policy)
    logged, scored = Logged(), list[tuple[Rollout, Score]]()
    hooks = {
        "callbacks": [logged],
        "on_scored": lambda rollouts, scores: scored.extend(zip(rollouts, scores, strict=True)),
    }
    trained = train(policy, DenseScorer(generator), hooks, critic=critic)
    assert weights_of(generator) == before
    assert all(weights_of(trained)[name] != value for name, value in policy_before.items())
    first, last = logged.weights[0], logged.weights[-1]
    changed = {name for name in first if first[name] != last[name]}
    assert {name for name in first if not name.startswith("reference.")} == changed

    # Two rollouts of two episodes, each attempted four times: whole groups.
    assert len(scored) == 2 * 2 * 4
    ids = [rollout.episode.episode_id for rollout, _ in scored]
    assert all(len(set(ids[start : start + 4])) == 1 for start in range(0, 16, 4))
    assert len(set(ids)) == 4

    assert len(logged.logs) == 8
    for step, log in enumerate(logged.logs):
        assert math.isfinite(log["loss"]) and {"policy_loss", "value_loss", "entropy"} <= set(log)
        assert ("improvement" in log and "explained_variance" in log) is (
            step % STEPS_PER_ROLLOUT == 0
        )
    # Prompts and answers are counted once, when they are played.
    usages = [rollout.reply.usage for rollout, _ in scored]
    sizes = [usage.read_tokens + usage.generated_tokens for usage in usages]
    played = [sum(sizes[:8])] * STEPS_PER_ROLLOUT + [sum(sizes)] * STEPS_PER_ROLLOUT
    assert [log["num_tokens"] for log in logged.logs] == played

    # Before anything was learned, the policy is its reference and its own past.
    assert logged.logs[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert logged.logs[0]["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert logged.logs[STEPS_PER_ROLLOUT]["kl"] > 0


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_while_the_critic_warms_up_the_policy_stays_byte_identical(
    make_model: MakeModel, train: Train, fake_scorer: Any, critic: str
) -> None:
    policy = make_model()
    before, logged = weights_of(policy), Logged()
    train(policy, fake_scorer, {"callbacks": [logged]}, critic=critic, critic_warmup_steps=3)
    for step, weights in enumerate(logged.weights):
        kept = all(weights[f"policy.{name}"] == value for name, value in before.items())
        assert kept is (step < 3)
        assert weights["critic.head.weight"] != bytes(len(weights["critic.head.weight"]))
        assert ("policy_loss" in logged.logs[step]) is (step >= 3)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_weights_decay_only_where_asked_for_and_norms_and_biases_never(
    make_model: MakeModel, train: Train, fake_scorer: Any, decay: float
) -> None:
    class Groups(TrainerCallback):
        groups: list[tuple[int, float, float]]

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.groups = [
                (max(p.dim() for p in group["params"]), group["initial_lr"], group["weight_decay"])
                for group in given["optimizer"].param_groups
            ]

    seen, arguments = Groups(), {"weight_decay": decay} if decay else {}
    hooks = {"callbacks": [seen]}
    train(
        make_model(),
        fake_scorer,
        hooks,
        max_steps=1,
        arguments=arguments,
        learning_rate=0.01,
        critic_learning_rate=0.02,
    )
    # Matrices have two dimensions; norms and biases, the first of each model's groups, have one.
    policy, critic = [(1, 0.01, 0.0), (2, 0.01, 0.1)], [(1, 0.02, 0.0), (2, 0.02, 0.1)]
    assert seen.groups == ([*policy, *critic] if decay else [(2, 0.01, 0.0), (2, 0.02, 0.0)])


def test_a_policy_learns_what_pays(make_model: MakeModel, train: Train) -> None:
    logged = Logged()
    train(
        make_model(),
        reward=WordReward(),
        hooks={"callbacks": [logged]},
        max_steps=24,
        num_generations=8,
        per_device_batch_size=16,
        epochs_per_rollout=2,
        minibatches_per_epoch=1,
        beta=0.0,
        learning_rate=2e-2,
    )
    rewards = [log["reward"] for log in logged.logs if "reward" in log]
    assert len(rewards) == 12
    assert fmean(rewards[-3:]) > 3 * fmean(rewards[:3])


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_adapters_learn_on_frozen_weights(
    make_model: MakeModel, train: Train, fake_scorer: Any, tmp_path: Path, critic: str
) -> None:
    policy = make_model()
    before = weights_of(policy)
    trained = train(policy, fake_scorer, {"peft_config": LORA}, critic=critic, save_steps=8)
    assert isinstance(trained, PeftModel)
    frozen = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): value
        for name, value in weights_of(trained).items()
        if "lora_" not in name
    }
    assert frozen == before
    assert any(
        weight.abs().max() > 0 for name, weight in trained.named_parameters() if "lora_B" in name
    )
    saved = set(load_file(tmp_path / "checkpoint-8" / "critic.safetensors"))
    assert {"head.weight", "head.bias"} <= saved
    assert (len(saved) == 2) is (critic == "shared")
    assert all("lora_" in name for name in saved - {"head.weight", "head.bias"})


# Between two rollouts, and in the middle of the second.
@pytest.mark.parametrize(("stop", "lora"), [(4, None), (6, None), (6, LORA)])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_model: MakeModel, train: Train, tmp_path: Path, stop: int, lora: LoraConfig | None
) -> None:
    generator = DenseScorer(make_model(seed=1))
    settings = {"save_steps": stop, "critic_warmup_steps": 2}
    whole = weights_of(train(make_model(seed=2), generator, {"peft_config": lora}, **settings))
    # What a run that was killed after that step leaves behind.
    shutil.rmtree(tmp_path / "checkpoint-8", ignore_errors=True)
    hooks = {"resume_from": tmp_path / f"checkpoint-{stop}", "peft_config": lora}
    assert weights_of(train(make_model(seed=2), generator, hooks, **settings)) == whole


def test_a_run_of_other_many_processes_is_not_resumed(
    make_model: MakeModel, train: Train, fake_scorer: Any, tmp_path: Path
) -> None:
    train(make_model(), fake_scorer, max_steps=4, save_steps=4)
    last = tmp_path / "checkpoint-4"
    (last / "rollout-0-of-1.safetensors").rename(last / "rollout-0-of-2.safetensors")
    with pytest.raises(ValueError, match="another number of processes wrote it"):
        train(make_model(), fake_scorer, {"resume_from": last}, max_steps=8)


def test_a_failed_score_stops_training_and_names_the_episode(
    make_model: MakeModel, train: Train
) -> None:
    generator = make_model()
    with torch.no_grad():
        generator.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"episode storyworld-1-train-.*likelihood of nan"):
        train(make_model(), DenseScorer(generator))


@pytest.mark.parametrize(
    ("settings", "processes", "line"),
    [
        (
            {"episodes_per_rollout": 3},
            "2",
            r"episodes_per_rollout: 3 episodes do not divide",
        ),
        ({"minibatches_per_epoch": 3}, "1", r"minibatches_per_epoch: the 128 attempts"),
        (
            {"per_device_batch_size": 48},
            "1",
            r"per_device_batch_size: .* 64 attempts",
        ),
        (
            {"per_device_batch_size": 64},
            "2",
            r"per_device_batch_size: .* 32 attempts",
        ),
    ],
)
def test_a_rollout_that_does_not_divide_is_an_error_that_names_the_key(
    settings: dict[str, int], processes: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(ValueError, match=rf"trainer\.{line}"):
        divide(PpoSettings(**settings))


def test_other_arguments_of_transformers_are_passed_on_and_ours_are_not_given_twice() -> None:
    assert PpoSettings(arguments={"adam_epsilon": 1e-6}).arguments == {"adam_epsilon": 1e-6}
    with pytest.raises(ValueError, match=r"trainer\.arguments\.adam_eps is not a field"):
        PpoSettings(arguments={"adam_eps": 1e-6})
    with pytest.raises(ValueError, match=r"trainer\.arguments\.max_steps is set by a key"):
        PpoSettings(arguments={"max_steps": 3})
