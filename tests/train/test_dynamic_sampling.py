"""Groups that teach nothing: what they are, how they are levelled, and how they are refilled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.tokens import end_id
from envs.types import Rollout
from rewards.types import Score
from train.dynamic_sampling import DynamicSampler
from train.episode_order import EpisodeOrder
from train.grpo import train_grpo
from train.rollouts import Judge
from train.settings.grpo import GrpoSettings
from train.signal import has_signal, levelled

MakeModel = Callable[..., PreTrainedModel]


def scores(*pairs: tuple[float, float | None], episode_id: str = "book/1") -> list[Score]:
    """Rewards with improvements."""
    return [Score(episode_id, reward, improvement, None, None) for reward, improvement in pairs]


@pytest.mark.parametrize(
    ("group", "noise", "signal"),
    [
        (scores((1.0, 1.0), (1.0, 3.0)), 0.0, False),
        (scores((0.5, 0.99), (0.9, 1.01)), 0.0, True),
        # On two sides of a threshold, but no further apart than rounding puts them.
        (scores((0.5, 0.99), (0.9, 1.01)), 0.03, False),
        (scores((0.5, 0.99), (0.9, 1.01), (0.9, 1.5)), 0.03, True),
        # One of them was judged by a rule, which has no noise.
        (scores((0.5, 0.99), (-1.0, None)), 10.0, True),
        (scores((-1.0, None), (-1.0, None)), 0.0, False),
        # They differ in what no scorer was asked for.
        (
            [
                Score("book/1", 1.0, 1.0, None, None, exact_reward=0.0),
                Score("book/1", 2.0, 1.0, None, None, exact_reward=1.0),
            ],
            0.03,
            True,
        ),
    ],
)
def test_a_group_has_signal_if_its_rewards_differ_by_more_than_noise(
    group: list[Score], noise: float, signal: bool
) -> None:
    assert has_signal(group, noise) is signal


def test_a_group_within_the_noise_is_levelled_to_its_mean_and_counted() -> None:
    noisy = scores((0.5, 0.99), (0.9, 1.01))
    real = scores((0.0, -1.0), (1.0, 3.0), episode_id="book/2")
    rewards, share = levelled([*noisy, *real], group_size=2, noise=0.03)
    assert rewards == [pytest.approx(0.7), pytest.approx(0.7), 0.0, 1.0]
    assert rewards[0] == rewards[1]
    assert share == 0.5


def test_what_nothing_is_learned_from_takes_part_in_no_comparison() -> None:
    first, second = scores((0.5, 0.99), (0.9, 1.01))
    # The 3.0 of one whom nobody heard would be a signal, and would raise the mean.
    assert levelled([first, None, second], group_size=3, noise=0.03) == (
        [pytest.approx(0.7), None, pytest.approx(0.7)],
        1.0,
    )
    assert levelled([first, None, second], group_size=3, noise=0.0) == ([0.5, None, 0.9], 0.0)
    # One alone has nobody to be compared with, and none has nothing.
    assert levelled([first, None, None, None], group_size=2, noise=0.0) == (
        [0.5, None, None, None],
        1.0,
    )


class EveryOtherEpisodeTeaches:
    """Attempts at an episode of an even chapter differ, others are all worth nothing.

    As rewards that compare attempts do, it wants one whole group of each episode in a call.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        ids = [r.episode.episode_id for r in rollouts]
        assert set(Counter(ids).values()) == {4}
        self.asked += ids
        return [
            Score(
                r.episode.episode_id, float(place) * teaches(r.episode.episode_id), None, None, None
            )
            for place, r in enumerate(rollouts)
        ]


def teaches(episode_id: str) -> bool:
    return int(episode_id.rsplit("/", 1)[1]) % 2 == 0


class Logged(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "groups/without_signal" in logs:
            self.logs.append(dict(logs))


@pytest.fixture
def run(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
    tmp_path: Path,
) -> Callable[..., tuple[list[str], list[dict[str, float]], list[str]]]:
    """What was learned from, what was logged, and all that was scored."""

    def run(**settings: Any) -> tuple[list[str], list[dict[str, float]], list[str]]:
        reward, logged, learned = EveryOtherEpisodeTeaches(), Logged(), list[str]()
        base = GrpoSettings(
            max_steps=4,
            num_generations=4,
            episodes_per_step=4,
            per_device_batch_size=8,
            max_completion_length=4,
        )
        train_grpo(
            make_model(),
            tokenizer,
            SoloPlanner(parser=PlanParser(whole_answer_without_marker=True)),
            reward,
            EpisodeOrder(world.episodes("train"), 4, base.num_rollouts, seed=0),
            replace(base, **settings),
            output_dir=tmp_path,
            seed=0,
            callbacks=[logged],
            on_scored=lambda rollouts, _: learned.extend(r.episode.episode_id for r in rollouts),
        )
        return learned, logged.logs, reward.asked

    return run


def test_groups_without_signal_are_refilled_by_other_episodes_and_counted(run: Any) -> None:
    learned, logs, scored = run(max_refills=6)
    without = [not teaches(id_) for id_ in learned]
    # Four steps of four groups; half of the episodes teach, so six refills leave next to none.
    assert len(learned) == 4 * 4 * 4
    assert sum(without) / len(without) <= 1 / 16
    assert all(count % 4 == 0 for count in Counter(learned).values())
    again = sum(log["groups/sampled_again"] for log in logs)
    assert len(scored) == (4 + again) * 4 * 4
    assert sum(log["groups/refilled"] for log in logs) > 0
    assert fmean_of(logs, "groups/without_signal") == pytest.approx(sum(without) / len(without))


def test_without_refills_groups_without_signal_stay_and_are_counted(run: Any) -> None:
    learned, logs, scored = run()
    without = [not teaches(id_) for id_ in learned]
    assert scored == learned
    assert fmean_of(logs, "groups/without_signal") == pytest.approx(sum(without) / len(without))
    assert fmean_of(logs, "frac_reward_zero_std") == pytest.approx(sum(without) / len(without))


def test_new_attempts_at_the_same_episodes_are_bounded(run: Any) -> None:
    learned, logs, scored = run(max_refills=2, refill_with="attempts", max_steps=1)
    dull = sum(not teaches(id_) for id_ in learned) // 4
    assert dull > 0
    assert set(scored) == set(learned)
    assert len(scored) == (4 + 2 * dull) * 4
    assert logs[0]["groups/refilled"] == 0


class OneOfTwo:
    """TRL's trainer as a sampler sees it, in the first of two processes; the other one lacks
    `lacking` groups in every round."""

    def __init__(self, end: int, lacking: int) -> None:
        self.end = end
        self.lacking = lacking
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = self
        self.process_index = 0
        self.device = torch.device("cpu")

    def gather(self, counted: torch.Tensor) -> torch.Tensor:
        return torch.cat([counted, torch.tensor([self.lacking])])

    def _generate_single_turn(
        self, prompt_ids: Sequence[list[int]], images: Any, fields: Any, num_generations: int
    ) -> tuple[list[list[int]], None]:
        return [[7, self.end] for _ in prompt_ids], None


@pytest.mark.parametrize("refill_with", ["attempts", "episodes"])
@pytest.mark.parametrize("lacking", [0, 3])
def test_an_episode_is_sampled_again_once_though_another_process_lacks_more_groups(
    tokenizer: PreTrainedTokenizerBase, world: StoryWorldSource, refill_with: Any, lacking: int
) -> None:
    # All that there is to play is asked for already.
    episodes = world.episodes("train")[:3]
    dull = sum(not teaches(episode.episode_id) for episode in episodes)
    assert 0 < dull < 3
    reward, end = EveryOtherEpisodeTeaches(), end_id(tokenizer)
    env = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
    sampler = DynamicSampler(
        Judge(episodes, env, reward),
        tokenizer,
        frozenset({end}),
        group_size=4,
        max_refills=2,
        refill_with=refill_with,
        noise=0.0,
        seed=0,
    )
    rows = [[{"episode_id": e.episode_id}] for e in episodes for _ in range(4)]
    found = sampler(rows, OneOfTwo(end, lacking))
    assert len(found["completion_ids"]) == 3 * 4
    if refill_with == "attempts":
        # The same ones stay without signal, in both rounds.
        assert len(reward.asked) == (3 + 2 * max(dull, lacking)) * 4
        assert found["episode_id"] == [e.episode_id for e in episodes for _ in range(4)]


def fmean_of(logs: Sequence[dict[str, float]], name: str) -> float:
    return sum(log[name] for log in logs) / len(logs)
