"""Reinforcement through TRL's hooks: the policy learns, the generator stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Episode, PlanStatus, Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import LikelihoodScorer, Score
from rewards.weighted_sum import WeightedTerm
from train.episode_order import EpisodeOrder
from train.grpo import (
    EpisodeReward,
    grpo_config,
    train_grpo,
)
from train.rollouts import Judge
from train.settings.grpo import GrpoSettings, LossType, steps_per_generation

MakeModel = Callable[..., PreTrainedModel]
RAW = [WeightedTerm("raw", Raw())]
END = 1
# Whatever a random model says is a plan, so that attempts differ in what they are worth.
ENV = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
TINY = GrpoSettings(
    max_steps=2,
    num_generations=4,
    episodes_per_step=2,
    per_device_batch_size=4,
    max_completion_length=8,
    learning_rate=1e-2,
    warmup_ratio=0.0,
)


class Logged(TrainerCallback):
    """Keeps what the trainer logs."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


def weights_of(model: PreTrainedModel) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.fixture
def train(
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
) -> Callable[..., PreTrainedModel]:
    """Trains a policy on the story world with what a scorer says; settings can be changed."""

    def train(
        policy: PreTrainedModel, scorer: LikelihoodScorer, hooks: Any = None, **settings: Any
    ) -> PreTrainedModel:
        return train_grpo(
            policy,
            tokenizer,
            ENV,
            LikelihoodImprovement(scorer, encoder, RAW, StatusRules()),
            EpisodeOrder(world.episodes("train"), 2, 4, seed=0),
            replace(TINY, **settings),
            output_dir=tmp_path,
            seed=0,
            **(hooks or {}),
        )

    return train


def test_the_generator_is_byte_identical_after_training_and_the_policy_is_not(
    make_model: MakeModel, train: Callable[..., PreTrainedModel]
) -> None:
    generator, policy = make_model(seed=1), make_model(seed=2)
    before, policy_before = weights_of(generator), weights_of(policy)
    logged, scored = Logged(), list[tuple[Rollout, Score]]()
    hooks = {
        "callbacks": [logged],
        "on_scored": lambda rollouts, scores: scored.extend(zip(rollouts, scores, strict=True)),
    }
    trained = train(policy, DenseScorer(generator), hooks)
    assert weights_of(generator) == before
    changed = {name for name, value in weights_of(trained).items() if value != policy_before[name]}
    assert changed == set(before)

    # Two steps of two episodes, each attempted four times.
    assert len(scored) == 2 * 2 * 4
    assert all(rollout.episode.episode_id == score.episode_id for rollout, score in scored)
    assert all(math.isfinite(score.reward) for _, score in scored)
    steps = [log for log in logged.logs if "improvement" in log]
    assert len(steps) == TINY.max_steps
    for step in steps:
        assert sum(step[f"plan/{status}"] for status in PlanStatus) == pytest.approx(1.0)


def test_checkpoints_are_left_where_they_were_asked_for(
    make_model: MakeModel, train: Callable[..., PreTrainedModel], fake_scorer: Any, tmp_path: Path
) -> None:
    train(make_model(), fake_scorer, max_steps=1, save_steps=1)
    assert (tmp_path / "checkpoint-1" / "model.safetensors").is_file()


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_answers_join_their_episodes_by_id_and_ids_tell_which_were_cut(
    fake_scorer: Any, tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode]
) -> None:
    # Room for the second plan of the two, not for the first; and for no whole chapter.
    section = "\n\n## Plan\n"
    fitting = len(tokenizer(f"{section}Ann pa")["input_ids"])
    assert len(tokenizer(f"{section}Cid runs.")["input_ids"]) > fitting
    encoder = GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=fitting, max_gold_tokens=2)
    seen: list[Rollout] = []
    metrics: dict[str, float] = {}

    def keep(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
        seen.extend(rollouts)

    judge = Judge(
        [make_episode("book/1"), make_episode("book/2", known="Cid left.")],
        SoloPlanner(),
        LikelihoodImprovement(fake_scorer, encoder, RAW, StatusRules(no_plan=-7.0)),
    )
    reward = EpisodeReward(judge, frozenset({END}), group_size=2, on_scored=keep)
    rewards = reward(
        completions=[
            answer("In summary: Cid runs."),
            answer("Hm."),
            answer("In summary: Ann pa"),
            answer(""),
        ],
        # An end in the middle of an answer is none; nor is no token at all.
        completion_ids=[[7, 8, END], [7, END], [7, END, 8], []],
        episode_id=["book/2", "book/2", "book/1", "book/1"],
        log_metric=metrics.__setitem__,
        trainer_state=None,
    )
    assert [r.episode.episode_id for r in seen] == ["book/2", "book/2", "book/1", "book/1"]
    assert "Cid left." in seen[0].prompt[0].content
    assert [r.outcome.plan for r in seen] == ["Cid runs.", "", "Ann pa", ""]
    assert [r.status.value for r in seen] == ["complete", "no_plan", "truncated", "no_plan"]
    assert [r.reply.truncated for r in seen] == [False, False, True, True]
    assert rewards[1::2] == [-7.0, -7.0]
    assert metrics == {
        # The mean over what was scored, not over what a rule judged.
        "improvement": pytest.approx((rewards[0] + rewards[2]) / 2),
        "plan/complete": 0.25,
        "plan/truncated": 0.25,
        "plan/no_plan": 0.5,
        "reward/raw": pytest.approx((rewards[0] + rewards[2]) / 2),
        # Two gold tokens and the guidance: the plan, as far as it fits, and the end of the prompt.
        "scored_tokens": fitting + len(encoder.request(make_episode()).guidance_ids) + 2,
        # Of the two that were scored.
        "cut/context": 0.0,
        "cut/plan": 0.5,
        "cut/gold": 1.0,
        "groups/without_signal": 0.0,
    }


def test_a_failed_score_stops_training_and_names_the_episode(
    make_model: MakeModel, train: Callable[..., PreTrainedModel]
) -> None:
    generator = make_model()
    with torch.no_grad():
        generator.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"episode storyworld-1-train-.*likelihood of nan"):
        train(make_model(), DenseScorer(generator))


@pytest.mark.parametrize(
    ("episodes", "generations", "batch", "steps"), [(16, 8, 128, 1), (16, 8, 32, 4), (2, 4, 8, 1)]
)
def test_every_step_samples_its_own_answers(
    episodes: int, generations: int, batch: int, steps: int
) -> None:
    settings = GrpoSettings(
        episodes_per_step=episodes, num_generations=generations, per_device_batch_size=batch
    )
    assert steps_per_generation(settings) == steps


@pytest.mark.parametrize(("batch", "processes"), [(96, "1"), (256, "1"), (64, "4")])
def test_attempts_that_do_not_divide_are_an_error_that_names_the_key(
    batch: int, processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    settings = GrpoSettings(episodes_per_step=16, num_generations=8, per_device_batch_size=batch)
    with pytest.raises(
        ValueError, match=r"trainer\.per_device_batch_size: .* = 128 attempts must be a multiple"
    ):
        steps_per_generation(settings)


def test_a_checkpoint_falls_where_the_rollouts_are_used_up() -> None:
    settings = GrpoSettings(save_steps=6, max_steps=10, num_iterations=3)
    # Three steps learn from the same answers; the fourth rollout serves one step.
    assert (settings.steps_per_rollout, settings.num_rollouts) == (3, 4)
    with pytest.raises(ValueError, match=r"trainer.save_steps: .*num_iterations = 3; got 4"):
        GrpoSettings(save_steps=4, num_iterations=3)


def test_a_group_stays_whole_on_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # 6 x 8 attempts divide over 4 processes, but not as whole groups.
    monkeypatch.setenv("WORLD_SIZE", "4")
    settings = GrpoSettings(episodes_per_step=6, num_generations=8, per_device_batch_size=12)
    with pytest.raises(ValueError, match=r"episodes_per_step: 6 episodes .* a multiple of 4"):
        steps_per_generation(settings)


def test_any_other_setting_of_trl_is_passed_on_and_none_of_ours_is_given_twice(
    tmp_path: Path,
) -> None:
    settings = replace(TINY, num_iterations=2, epsilon_high=0.28, trl={"top_k": 7})
    config = grpo_config(settings, tmp_path, seed=3)
    assert (config.top_k, config.num_iterations, config.seed) == (7, 2, 3)
    assert (config.epsilon, config.epsilon_high) == (0.2, 0.28)
    with pytest.raises(ValueError, match=r"trainer\.trl\.top_q is not a field"):
        GrpoSettings(trl={"top_q": 1})
    with pytest.raises(ValueError, match=r"trainer\.trl\.beta is set by a key of the trainer"):
        GrpoSettings(trl={"beta": 1})


def test_what_has_a_key_of_its_own_reaches_trl(tmp_path: Path) -> None:
    settings = replace(
        TINY,
        beta=0.04,
        epsilon=0.1,
        temperature=0.7,
        loss_type="dr_grpo",
        importance_sampling_level="sequence",
        scale_rewards="batch",
        max_grad_norm=0.5,
        adam_beta2=0.99,
        trl={"weight_decay": 0.1},
    )
    config = grpo_config(settings, tmp_path, seed=0)
    assert (config.beta, config.epsilon, config.temperature) == (0.04, 0.1, 0.7)
    assert (config.loss_type, config.importance_sampling_level) == ("dr_grpo", "sequence")
    assert (config.scale_rewards, config.max_grad_norm, config.adam_beta2) == ("batch", 0.5, 0.99)
    assert config.weight_decay == 0.1
    assert grpo_config(TINY, tmp_path, seed=0).weight_decay == 0


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_every_loss_type_trains(
    make_model: MakeModel, train: Callable[..., PreTrainedModel], fake_scorer: Any, loss_type: str
) -> None:
    level = "sequence" if loss_type == "luspo" else "token"
    logged = Logged()
    train(
        make_model(),
        fake_scorer,
        {"callbacks": [logged]},
        loss_type=loss_type,
        importance_sampling_level=level,
    )
    assert all(math.isfinite(log["loss"]) for log in logged.logs if "loss" in log)
    assert any(log.get("grad_norm", 0) > 0 for log in logged.logs)


def test_gspo_and_learning_twice_from_the_same_answers_train(
    make_model: MakeModel, train: Callable[..., PreTrainedModel], fake_scorer: Any
) -> None:
    logged, scored = Logged(), list[Rollout]()
    hooks = {"callbacks": [logged], "on_scored": lambda rollouts, _: scored.extend(rollouts)}
    settings = {"loss_type": "grpo", "importance_sampling_level": "sequence", "num_iterations": 2}
    train(make_model(), fake_scorer, hooks, **settings, max_steps=4)
    assert len(scored) == 2 * 2 * 4
    assert sum("grad_norm" in log for log in logged.logs) == 4


@pytest.mark.parametrize(("loss_type", "level"), [("luspo", "token"), ("vespo", "sequence")])
def test_a_loss_of_whole_answers_does_not_go_with_ratios_of_tokens(
    loss_type: Any, level: Any
) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.loss_type: {loss_type} does not go with"):
        GrpoSettings(loss_type=loss_type, importance_sampling_level=level)


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_vllm_is_passed_on(tmp_path: Path, mode: str) -> None:
    settings = replace(TINY, sampler=f"vllm_{mode}", importance_sampling_correction=False)
    config = grpo_config(settings, tmp_path, seed=0)
    assert (config.use_vllm, config.vllm_mode) == (True, mode)
    assert not config.vllm_importance_sampling_correction


def test_continuous_batching_is_passed_on(tmp_path: Path) -> None:
    config = grpo_config(replace(TINY, sampler="continuous_batching"), tmp_path, seed=0)
    assert config.use_transformers_continuous_batching and not config.use_vllm


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_checkpointed_only_where_asked_for(
    tmp_path: Path, checkpointing: bool
) -> None:
    settings = replace(TINY, gradient_checkpointing=checkpointing)
    assert grpo_config(settings, tmp_path, seed=0).gradient_checkpointing is checkpointing
