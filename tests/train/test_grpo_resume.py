"""A GRPO run that stopped at a checkpoint ends, bit for bit, where the uninterrupted one ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.utils import RepeatSampler

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import Score
from rewards.weighted_sum import WeightedTerm
from train.checkpoints import Checkpoints
from train.curriculum import ByRewardVariance
from train.episode_order import EpisodeOrder
from train.grpo import train_grpo
from train.preemption import StopSignals
from train.saving import CheckpointKeeper
from train.settings.checkpoints import CheckpointConfig
from train.settings.grpo import GrpoSettings

EPISODES = 5
SETTINGS = GrpoSettings(
    max_steps=6,
    num_generations=4,
    episodes_per_step=2,
    per_device_batch_size=8,
    max_completion_length=8,
    learning_rate=1e-2,
    lr_scheduler_type="linear",
    warmup_ratio=0.5,
    save_steps=6,
)
# What TRL measures by the clock.
TIMES = {"step_time"}


class Watch(TrainerCallback):
    """Keeps what is logged by step, and lets a signal come at `stop_at`."""

    def __init__(self, signals: StopSignals, stop_at: int) -> None:
        self.signals = signals
        self.stop_at = stop_at
        self.steps: dict[int, dict[str, float]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.stop_at:
            self.signals.received = "SIGUSR1"

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            kept = {name: value for name, value in logs.items() if name not in TIMES}
            self.steps[state.global_step] = kept


@pytest.fixture
def train(
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    make_model: Callable[..., PreTrainedModel],
    tmp_path: Path,
) -> Callable[..., tuple[dict[str, bytes], dict[int, Any], list[Any]]]:
    """Trains in a folder of this name, from its last checkpoint on, until `stop_at`.

    Gives the weights, what was logged, and which episode was answered how and for what reward.
    """

    def train(
        name: str, stop_at: int = -1, peft: bool = False, curriculum: bool = False, **changed: Any
    ) -> tuple[dict[str, bytes], dict[int, Any], list[Any]]:
        settings = replace(SETTINGS, **changed)
        # Fewer episodes than the run plays: it crosses from one pass into the next.
        order = EpisodeOrder(
            world.episodes("train")[:EPISODES],
            settings.episodes_per_rollout,
            settings.num_rollouts,
            0,
            ByRewardVariance() if curriculum else None,
        )
        signals, seen = StopSignals(), list[Any]()
        watch = Watch(signals, stop_at)
        checkpoints = Checkpoints(tmp_path / name, CheckpointConfig(), {}, print)
        last = checkpoints.newest()
        if last is not None:
            last.restore({"order": order})
        keeper = CheckpointKeeper(
            checkpoints, signals, {"order": order}, settings.steps_per_savepoint
        )

        def on_scored(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
            order.observe(rollouts, scores)
            seen.extend(
                (r.episode.episode_id, r.reply.text, s.reward)
                for r, s in zip(rollouts, scores, strict=True)
            )

        env = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
        generator = DenseScorer(make_model(seed=1))
        policy = train_grpo(
            make_model(seed=2),
            tokenizer,
            env,
            LikelihoodImprovement(generator, encoder, [WeightedTerm("raw", Raw())], StatusRules()),
            order,
            settings,
            output_dir=checkpoints.staging_dir,
            seed=0,
            callbacks=[watch, keeper],
            on_scored=on_scored,
            resume_from=last.path if last else None,
            peft_config=LoraConfig(r=2, target_modules="all-linear") if peft else None,
        )
        weights = {n: t.numpy().tobytes() for n, t in policy.state_dict().items()}
        return weights, watch.steps, seen

    return train


@pytest.mark.parametrize(
    ("stop_at", "changed"),
    [
        # Two rollouts make a pass: here the third one begins.
        (4, {}),
        # Two steps learn from each rollout; the signal waits for the second.
        (3, {"num_iterations": 2, "per_device_batch_size": 2, "curriculum": True}),
        pytest.param(1, {}, marks=pytest.mark.slow),
        pytest.param(2, {"peft": True}, marks=pytest.mark.slow),
        pytest.param(4, {"curriculum": True}, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    train: Callable[..., Any], stop_at: int, changed: dict[str, Any]
) -> None:
    weights, logged, seen = train("whole", **changed)
    _, logged_before, seen_before = train("stopped", stop_at, **changed)
    assert max(logged_before) < 6
    resumed_weights, logged_after, seen_after = train("stopped", **changed)
    assert seen_before + seen_after == seen
    assert {**logged_before, **logged_after} == logged
    assert resumed_weights == weights
    # All of it was learned from: a run that does nothing would end alike as well.
    assert len({reward for _, _, reward in seen}) > 1


def test_episodes_come_in_the_order_of_trls_own_sampler(world: StoryWorldSource) -> None:
    episodes = world.episodes("train")[:EPISODES]
    sampler = RepeatSampler(episodes, mini_repeat_count=1, batch_size=2, seed=7)
    order = EpisodeOrder(episodes, episodes_per_rollout=2, num_rollouts=6, seed=7)
    # Three passes of two rollouts each, from one sampler.
    expected = [episodes[place] for _ in range(3) for place in sampler]
    assert [order[position] for position in range(len(order))] == expected
