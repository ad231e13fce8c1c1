"""The reward from config: every choice scores a group, and groups are checked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from transformers import PreTrainedModel, TrainerCallback

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Guidance, PlanStatus, Reply, Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from train.config.validate import parse
from train.episode_order import EpisodeOrder
from train.grpo import train_grpo
from train.reward_config import build_terms, check_groups, distractors
from train.schema import RewardConfig, RunConfig, TermConfig
from train.settings.grpo import GrpoSettings

CHOICES = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "configs" / "reward").glob("*.yaml")
)
MY_TERM = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Wordy:
    """A nat for every word of a plan."""
    most: int = 3

    def __call__(self, group):
        return [min(self.most, len(m.rollout.outcome.plan.split())) for m in group]
'''


def reward_config(compose_train: Callable[..., DictConfig], *overrides: str) -> RewardConfig:
    return parse(RunConfig, compose_train(*overrides)).reward


def reward_of(
    config: RewardConfig,
    model: PreTrainedModel,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
) -> LikelihoodImprovement:
    terms = build_terms(config)
    others = distractors(terms, world.episodes("train"))
    return LikelihoodImprovement(
        DenseScorer(model), encoder, terms, config.rules, group_size=4, distractors=others
    )


@pytest.mark.parametrize("choice", CHOICES)
def test_every_reward_values_a_group_and_a_malformed_answer_less_than_any_plan(
    compose_train: Callable[..., DictConfig],
    make_model: Callable[..., PreTrainedModel],
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    choice: str,
) -> None:
    config = reward_config(compose_train, f"reward={choice}")
    episodes = world.episodes("train")
    plans = [episodes[0].plans["true"], "", episodes[9].plans["true"]]
    rollouts = [
        Rollout(episodes[0], (), Reply(f"In summary: {p}"), PlanStatus.COMPLETE, Guidance(p))
        for p in plans
    ]
    rollouts.append(Rollout(episodes[0], (), Reply("Hm."), PlanStatus.NO_PLAN, Guidance("")))
    scores = reward_of(config, make_model(), encoder, world)(rollouts)
    assert all(math.isfinite(score.reward) for score in scores)
    assert set(scores[0].terms) == set(config.terms)
    assert scores[1].improvement == 0.0
    assert scores[3].reward < min(score.reward for score in scores[:3])


class Logged(TrainerCallback):
    """Keeps what the trainer logs."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


def test_a_policy_learns_from_all_terms_at_once_and_each_is_logged(
    compose_train: Callable[..., DictConfig],
    make_model: Callable[..., PreTrainedModel],
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
) -> None:
    terms: dict[str, TermConfig] = {}
    for choice in CHOICES:
        terms |= reward_config(compose_train, f"reward={choice}").terms
    logged = Logged()
    train_grpo(
        make_model(seed=2),
        encoder.tokenizer,
        SoloPlanner(parser=PlanParser(whole_answer_without_marker=True)),
        reward_of(RewardConfig(terms), make_model(), encoder, world),
        EpisodeOrder(world.episodes("train"), 2, 1, seed=0),
        GrpoSettings(
            max_steps=1,
            num_generations=4,
            episodes_per_step=2,
            per_device_batch_size=4,
            max_completion_length=8,
        ),
        output_dir=tmp_path,
        seed=0,
        callbacks=[logged],
    )
    (step,) = [log for log in logged.logs if "improvement" in log]
    assert len(terms) == 13
    assert {name for name in step if name.startswith("reward/")} == {f"reward/{n}" for n in terms}
    assert math.isfinite(step["reward"])


def test_a_term_of_the_user_plugs_in_by_its_import_path(
    compose_train: Callable[..., DictConfig],
    make_model: Callable[..., PreTrainedModel],
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my_terms.py").write_text(MY_TERM)
    monkeypatch.syspath_prepend(tmp_path)
    config = reward_config(
        compose_train,
        "+reward.terms.wordy.term._target_=my_terms.Wordy",
        "+reward.terms.wordy.term.most=2",
        "+reward.terms.wordy.weight=10",
    )
    (episode,) = world.episodes("train")[:1]
    plan = Rollout(episode, (), Reply(""), PlanStatus.COMPLETE, Guidance("Ann will pay."))
    (score,) = reward_of(config, make_model(), encoder, world)([plan])
    assert score.terms["wordy"] == 2
    assert score.improvement is not None
    assert score.reward == pytest.approx(score.improvement + 20)


def test_a_reward_that_pays_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^reward\.terms: no term with a weight other than 0"):
        build_terms(RewardConfig(terms={}))


def test_a_wrong_setting_of_a_term_names_its_key() -> None:
    part = TermConfig({"_target_": "rewards.terms.tiers.Tiers", "thresholds": [2.0, 1.0]})
    with pytest.raises(ValueError, match=r"^reward\.terms\.steps\.term: thresholds must rise"):
        build_terms(RewardConfig(terms={"steps": part}))


def test_groups_have_to_fit_processes_only_where_a_term_compares_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank = TermConfig({"_target_": "rewards.terms.rank.Rank"})
    raw = TermConfig({"_target_": "rewards.terms.raw.Raw"})
    comparing = build_terms(RewardConfig(terms={"rank": rank}))
    alone = build_terms(RewardConfig(terms={"raw": raw}))
    settings = GrpoSettings(episodes_per_step=6, num_generations=8, per_device_batch_size=12)
    check_groups(comparing, settings)
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_groups(alone, settings)
    check_groups(comparing, replace(settings, episodes_per_step=8))
    with pytest.raises(ValueError, match=r"6 groups do not divide over 4 .* multiple of 4"):
        check_groups(comparing, settings)
