"""Groups are scored while others are sampled: in parts, in order, and by no other rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest
from rewards.weighted_sum import WeightedTerm
from train.algorithms import order_of, train_policy
from train.ppo.settings import PpoSettings
from train.settings.grpo import GrpoSettings

COMMON: dict[str, Any] = {
    "num_generations": 2,
    "per_device_batch_size": 2,
    "max_completion_length": 6,
    "warmup_ratio": 0.0,
    "save_steps": 100,
}
GRPO = GrpoSettings(max_steps=1, episodes_per_step=3, episodes_at_once=1, **COMMON)
PPO = PpoSettings(
    max_steps=1, episodes_per_rollout=3, epochs_per_rollout=1, minibatches_per_epoch=1, **COMMON
)


class Background:
    """Scores by another scorer, and writes down what was started and what was asked for."""

    def __init__(self, scorer: LikelihoodScorer) -> None:
        self.scorer = scorer
        self.started: list[list[ScoreRequest]] = []
        self.asked: list[list[ScoreRequest]] = []

    def start(self, requests: Sequence[ScoreRequest]) -> None:
        assert not self.asked, "it began after the rest was sampled"
        self.started.append(list(requests))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        self.asked.append(list(requests))
        return self.scorer.score(requests)


class Rewards(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "reward" in logs:
            self.seen.append(logs["reward"])


@pytest.mark.parametrize("settings", [GRPO, PPO], ids=["grpo", "ppo"])
def test_all_parts_but_the_last_are_begun_before_the_rest_is_sampled(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    fake_scorer: Any,
    tmp_path: Path,
    settings: GrpoSettings | PpoSettings,
) -> None:
    scorer, rewards = Background(fake_scorer), Rewards()
    train_policy(
        make_model(),
        tokenizer,
        SoloPlanner(parser=PlanParser(whole_answer_without_marker=True)),
        LikelihoodImprovement(
            scorer, encoder, [WeightedTerm("raw", Raw())], StatusRules(no_plan="score")
        ),
        order_of(world.episodes("train"), settings, seed=0),
        settings,
        output_dir=tmp_path,
        seed=0,
        callbacks=[rewards],
    )
    # Three episodes, one at a time; each is a baseline and its attempts.
    assert [len({r.prefix_ids for r in part}) for part in scorer.started] == [1, 1]
    (asked,) = scorer.asked
    assert len({r.prefix_ids for r in asked}) == 3
    # What was begun is what is asked for in the end, so that it is taken up.
    assert {r for part in scorer.started for r in part} < set(asked)
    assert len(rewards.seen) == 1
