"""A run is probed while it learns, is left as it would have been, and ends when it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.sampling import Sampling
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Conversation, Reply
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.weighted_sum import WeightedTerm
from train.episode_order import EpisodeOrder
from train.grpo import train_grpo
from train.logs import JsonlSink, MetricLog
from train.monitors.callback import MonitorCallback, read_probes
from train.monitors.catalogue import MONITORS
from train.monitors.limits import Limits
from train.monitors.probe import Probe
from train.settings.grpo import GrpoSettings

MakeModel = Callable[..., PreTrainedModel]
ENV = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
TINY = GrpoSettings(
    max_steps=4,
    num_generations=4,
    episodes_per_step=2,
    per_device_batch_size=8,
    max_completion_length=8,
    learning_rate=1e-2,
    warmup_ratio=0.0,
)


@pytest.fixture
def rewards(
    make_model: MakeModel, encoder: GeneratorEncoder
) -> Callable[..., LikelihoodImprovement]:
    def make(seed: int = 1) -> LikelihoodImprovement:
        terms = [WeightedTerm("raw", Raw())]
        scorer = DenseScorer(make_model(seed=seed))
        return LikelihoodImprovement(scorer, encoder, terms, StatusRules())

    return make


@pytest.fixture
def probe(rewards: Callable[..., LikelihoodImprovement], world: StoryWorldSource) -> Probe:
    return Probe(
        world.episodes("validation")[::3],
        attempts=3,
        env=ENV,
        reward=rewards(),
        second=rewards(seed=2),
        sampling=Sampling(max_new_tokens=8),
        batch_size=5,
        seed=0,
    )


def test_a_probe_measures_every_monitor_and_the_same_each_time(
    probe: Probe, make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    policy = make_model(seed=3).train()
    values = probe.measure(policy, tokenizer)
    assert set(values) == set(MONITORS) - {"plan_words_ratio", "entropy_ratio"}
    assert values["margin_empty"] == pytest.approx(values["second_gap"] + values["second_gain"])
    assert 0 <= values["plan_unseen_trigrams"] <= 1
    # Eight tokens never end an answer of a model that knows nothing.
    assert values["truncated"] > 0.5
    assert policy.training
    assert probe.measure(policy, tokenizer) == values


class Verifies:
    """Accepts some drafts, and is not the policy."""

    def __init__(self, *accepted: bool) -> None:
        self.accepted = accepted

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        said = zip(conversations, self.accepted, strict=True)
        return [Reply("ACCEPT" if accepted else "No.") for _, accepted in said]


@pytest.mark.parametrize("accepted", [(False,), (True,)])
def test_answers_are_measured_of_those_who_learn(
    accepted: tuple[bool, ...],
    probe: Probe,
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    cast = Cast({"ann": Verifies(*accepted)}, {"verifier": "ann"}, ("refiner",))
    env = Feedback(parser=ENV.parser, cast=cast, rounds=1)
    one = replace(probe, episodes=probe.episodes[:1], attempts=1, env=env)
    found = one.measure(make_model(seed=3), tokenizer)
    for name in ("entropy", "truncated"):
        assert (name in found) is not accepted[0], name
    assert "no_plan" in found


@dataclass
class Scripted:
    """A probe that finds what it is told, and tells at which step it was asked."""

    values: list[Mapping[str, float]]
    asked: int = 0

    def measure(self, policy: Any, tokenizer: Any) -> dict[str, float]:
        self.asked += 1
        return dict(self.values.pop(0))


@dataclass
class Watched:
    """What a watched run left: its weights, its lines, and where it stopped."""

    weights: dict[str, bytes]
    callback: MonitorCallback | None
    said: list[str] = field(default_factory=list)


@pytest.fixture
def train(
    rewards: Callable[..., LikelihoodImprovement],
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
    tmp_path: Path,
) -> Callable[..., Watched]:
    def train(
        probe: Any = None,
        limits: Mapping[str, Limits] | None = None,
        history: Sequence[Mapping[str, float]] = (),
        every_steps: int = 1,
        patience: int = 2,
    ) -> Watched:
        said: list[str] = []
        log = MetricLog([JsonlSink(tmp_path / "metrics.jsonl", tmp_path / "tables")])
        callback = probe and MonitorCallback(
            probe, limits or {}, every_steps, patience, log, said.append, history
        )
        policy = train_grpo(
            make_model(seed=3),
            tokenizer,
            ENV,
            rewards(),
            EpisodeOrder(world.episodes("train"), 2, TINY.max_steps, seed=0),
            TINY,
            output_dir=tmp_path / "checkpoints",
            seed=0,
            callbacks=[callback] if callback else [],
        )
        weights = {n: t.numpy().tobytes() for n, t in policy.state_dict().items()}
        return Watched(weights, callback, said)

    return train


def test_a_watched_run_ends_with_the_weights_of_one_that_nobody_watches(
    train: Callable[..., Watched], probe: Probe
) -> None:
    assert train(probe).weights == train().weights


def test_a_run_is_probed_at_its_start_every_few_steps_and_at_its_end(
    train: Callable[..., Watched], tmp_path: Path
) -> None:
    scripted = Scripted([{"plan_words": words} for words in (20.0, 10.0, 5.0)])
    train(scripted, {"plan_words_ratio": Limits(warn_below=0.4)}, every_steps=3)
    assert scripted.asked == 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    probed = [(line["step"], line["monitor/plan_words_ratio"]) for line in lines]
    assert probed == [(0, 1.0), (3, 0.5), (4, 0.25)]
    rows = (tmp_path / "tables" / "monitors.jsonl").read_text().splitlines()
    shown = [(r["monitor"], r["value"], r["at_start"], r["verdict"]) for r in map(json.loads, rows)]
    assert shown == [
        ("plan_words", 20.0, 20.0, "start"),
        ("plan_words_ratio", 1.0, 1.0, "start"),
        ("plan_words", 10.0, 20.0, "ok"),
        ("plan_words_ratio", 0.5, 1.0, "ok"),
        ("plan_words", 5.0, 20.0, "ok"),
        ("plan_words_ratio", 0.25, 1.0, "warn"),
    ]


def test_a_warning_is_said_and_the_run_goes_on(train: Callable[..., Watched]) -> None:
    scripted = Scripted([{"truncated": share} for share in (0.9, 0.1, 0.8, 0.1, 0.1)])
    watched = train(scripted, {"truncated": Limits(warn_above=0.5)})
    # The first probe is what a run starts from, and no fault of its own.
    assert len(watched.said) == 1
    assert watched.said[0].startswith("WARNING: step 2: monitor truncated = 0.8, above 0.5 (share")
    assert scripted.asked == 5


def test_a_stop_ends_the_run_with_a_checkpoint(
    train: Callable[..., Watched], tmp_path: Path
) -> None:
    scripted = Scripted([{"no_plan": share} for share in (0.0, 1.0, 0.2, 1.0, 1.0)])
    watched = train(scripted, {"no_plan": Limits(stop_above=0.9)})
    assert watched.callback is not None and watched.callback.stopped is not None
    # Beyond the bound at steps 1, 3 and 4: twice in a row at 4.
    assert watched.callback.stopped.name == "no_plan"
    assert [p.name for p in (tmp_path / "checkpoints").glob("checkpoint-*")] == ["checkpoint-4"]
    assert [line.split(":")[1].strip() for line in watched.said] == ["step 1", "step 3"]


def test_a_resumed_run_goes_on_with_its_first_probe_and_its_patience(
    train: Callable[..., Watched], tmp_path: Path
) -> None:
    history = [{"no_plan": 0.0, "plan_words": 40.0}, {"no_plan": 1.0}]
    scripted = Scripted([{"no_plan": 1.0, "plan_words": 10.0}])
    watched = train(scripted, {"no_plan": Limits(stop_above=0.9)}, history)
    assert watched.callback is not None and watched.callback.stopped is not None
    assert scripted.asked == 1
    found = read_probes(tmp_path / "metrics.jsonl")
    assert found == [{"no_plan": 1.0, "plan_words": 10.0, "plan_words_ratio": 0.25}]
    assert [p.name for p in (tmp_path / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]


def test_nothing_logged_is_no_history(tmp_path: Path) -> None:
    assert read_probes(tmp_path / "metrics.jsonl") == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "monitor/gain": null}\n')
    assert read_probes(tmp_path / "metrics.jsonl") == []


def test_of_an_actor_and_its_critic_the_actor_is_watched(tmp_path: Path) -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = torch.nn.Linear(1, 1)
            self.policy.device = torch.device("cpu")  # pyright: ignore[reportAttributeAccessIssue]

    seen: list[Any] = []

    class Looking(Scripted):
        def measure(self, policy: Any, tokenizer: Any) -> dict[str, float]:
            seen.append(policy)
            return super().measure(policy, tokenizer)

    probe: Any = Looking([{"gain": 1.0}])
    callback = MonitorCallback(probe, {}, 1, 1, MetricLog([]), print)
    both, state = Both(), type("State", (), {"global_step": 0, "is_world_process_zero": True})
    arguments = type("Arguments", (), {"bf16": False})
    callback.on_train_begin(arguments, state, None, model=both, processing_class=None)
    assert seen == [both.policy]
