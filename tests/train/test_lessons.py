"""Of a play, a trainer learns from the trained turns alone, a row for each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.agents_room import AgentsRoom
from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.tokens import chat_text, end_id
from envs.types import (
    Answer,
    Conversation,
    Episode,
    Guidance,
    PlanStatus,
    Reply,
    Rollout,
    Turn,
    Usage,
)
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import Score
from rewards.weighted_sum import WeightedTerm
from train.algorithms import check_trainer, order_of, train_policy
from train.grpo import EpisodeReward, GrpoSettings
from train.lessons import cost_summary, in_rows, learned_places, play_lessons
from train.play_sampler import PlaySampler
from train.ppo.settings import PpoSettings
from train.rollouts import Judge

WHOLE = PlanParser(whole_answer_without_marker=True)
GRPO = GrpoSettings(
    max_steps=2,
    num_generations=2,
    episodes_per_step=2,
    per_device_batch_size=4,
    max_completion_length=6,
    learning_rate=1e-2,
    warmup_ratio=0.0,
)
PPO = PpoSettings(
    max_steps=4,
    num_generations=2,
    episodes_per_rollout=2,
    per_device_batch_size=2,
    max_completion_length=6,
    learning_rate=1e-2,
    warmup_ratio=0.0,
)


def rollout(episode: Episode, *is_trained: bool) -> Rollout:
    turns = tuple(
        Turn("drafter", "policy" if t else "ann", (), Reply("x", usage=Usage(10, 2)), t)
        for t in is_trained
    )
    return Rollout(episode, (), Reply("x"), PlanStatus.COMPLETE, Guidance("x"), turns, {"a": 1})


def test_every_play_has_equally_many_rows(make_episode: Callable[..., Episode]) -> None:
    rng = random.Random(0)
    play = rollout(make_episode(), True, False, True, True)
    assert learned_places(play, 3, rng) == [0, 2, 3]
    # Two of three, each equally often.
    drawn = [tuple(learned_places(play, 2, rng)) for _ in range(300)]
    assert set(drawn) == {(0, 2), (0, 3), (2, 3)}
    assert all(70 < drawn.count(pair) < 130 for pair in set(drawn))
    # More rows than turns: the first ones again.
    assert learned_places(play, 5, rng) == [0, 2, 3, 0, 2]
    # Nobody to learn from: as many rows, of no turn.
    assert learned_places(rollout(make_episode(), False), 2, rng) == [None, None]


def test_costs_are_means_per_play(make_episode: Callable[..., Episode]) -> None:
    plays = [rollout(make_episode(), True, False), rollout(make_episode(), True, True)]
    assert cost_summary(plays) == {
        "cost/policy/calls": 1.5,
        "cost/policy/read_tokens": 15.0,
        "cost/policy/generated_tokens": 3.0,
        "cost/ann/calls": 0.5,
        "cost/ann/read_tokens": 5.0,
        "cost/ann/generated_tokens": 1.0,
        "play/a": 1.0,
    }


def test_money_is_told_of_members_that_took_any(make_episode: Callable[..., Episode]) -> None:
    play = rollout(make_episode(), True, False)
    own, other = play.turns
    paid = replace(other, reply=replace(other.reply, usage=Usage(5, 1, money=0.25)))
    found = cost_summary([replace(play, turns=(own, paid)), play])
    assert found[f"cost/{other.member}/money"] == 0.125
    assert f"cost/{own.member}/money" not in found


class SaysItsNumber:
    """TRL's sampler as `PlaySampler` calls it: the n-th answer is the n-th token from `first` on,
    and the end."""

    def __init__(self, end: int, first: int = 100) -> None:
        self.end = end
        self.first = first
        self.prompts: list[list[int]] = []
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(process_index=0)
        self.model = nn.Linear(2, 3)

    def _generate_single_turn(
        self, prompt_ids: Sequence[list[int]], images: Any, fields: Any, num_generations: int
    ) -> tuple[list[list[int]], None]:
        assert num_generations == 1
        first = self.first + len(self.prompts)
        self.prompts += [list(ids) for ids in prompt_ids]
        return [[first + n, self.end] for n in range(len(prompt_ids))], None


class Worthless:
    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(r.episode.episode_id, 0.0, None, None, None) for r in rollouts]


class Refuses:
    """Finds fault with everything, and is not the policy."""

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply("No.") for _ in conversations]


def test_rows_hold_what_the_trained_role_read_and_said_and_nothing_of_others(
    tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode]
) -> None:
    cast = Cast({"ann": Refuses()}, {"verifier": "ann"}, ("drafter",))
    env, end = Feedback(parser=WHOLE, cast=cast, rounds=1), end_id(tokenizer)
    episodes = {f"book/{n}": make_episode(f"book/{n}") for n in (1, 2)}
    sampler = PlaySampler(
        env,
        Worthless(),
        episodes,
        tokenizer,
        frozenset({end}),
        group_size=2,
        batch_size=3,
        credit="play",
        seed=0,
    )
    trl = SaysItsNumber(end)
    rows = [[{"role": "user", "content": "", "episode_id": id_}] for id_ in episodes for _ in "ab"]
    found = sampler(rows, trl)
    # The policy drafts (100 to 103) and refines (104 to 107), but only learns to draft.
    assert found["completion_ids"] == [[100 + n, end] for n in range(4)]
    assert found["episode_id"] == ["book/1", "book/1", "book/2", "book/2"]
    asked = chat_text(tokenizer, env.ask(episodes["book/1"]))
    assert found["prompt_ids"][0] == tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert len(trl.prompts) == 8
    assert sampler.metrics["cost/policy/calls"] == 2.0
    assert sampler.metrics["cost/ann/calls"] == 1.0
    # Of the nine weights, for each token of two prompts and two answers of two tokens each.
    tokens = sampler.metrics["cost/policy/read_tokens"] + 4
    assert sampler.metrics["cost/policy/giga_operations"] == pytest.approx(2e-9 * 9 * tokens)
    assert "cost/ann/giga_operations" not in sampler.metrics
    assert found["logprobs"] is None


class AcceptsSome:
    """Accepts the drafts at some places of each round of conversations, and is not the policy."""

    def __init__(self, accepted: Callable[[int], bool]) -> None:
        self.accepted = accepted

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        places = range(len(conversations))
        return [Reply("ACCEPT" if self.accepted(place) else "No.") for place in places]


def refiner_alone(accepted: Callable[[int], bool]) -> Feedback:
    """Only the refiner learns, who is not heard where the draft is accepted."""
    cast = Cast({"ann": AcceptsSome(accepted)}, {"verifier": "ann"}, ("refiner",))
    return Feedback(parser=WHOLE, cast=cast, rounds=2)


class ByPlan:
    """Pays what a plan is worth, and something more where nobody who learns has spoken."""

    def __init__(self, worth: Callable[[str], float], unheard: float) -> None:
        self.worth = worth
        self.unheard = unheard

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(r.episode.episode_id, self._pay(r), None, None, None) for r in rollouts]

    def _pay(self, rollout: Rollout) -> float:
        assert isinstance(rollout.outcome, Guidance)
        extra = 0.0 if rollout.is_heard else self.unheard
        return self.worth(rollout.outcome.plan) + extra


@pytest.mark.parametrize("credit", ["play", "turn"])
def test_plays_without_a_word_of_who_learns_have_rows_that_weigh_nothing(
    tokenizer: PreTrainedTokenizerBase, make_episode: Callable[..., Episode], credit: str
) -> None:
    # Of four drafts the first and the last are accepted; of the two that are left, the first.
    env, end = refiner_alone(lambda place: place in (0, 3)), end_id(tokenizer)
    episode = make_episode()
    # From 300 on, tokens are letters.
    said = {str(tokenizer.decode([n])).strip(): n for n in range(300, 307)}
    points = {301: 1.0, 304: 4.0, 305: 5.0, 306: 9.0}
    reward = ByPlan(lambda plan: points.get(said[plan], 0.0), unheard=99.0)
    sampler = PlaySampler(
        env,
        reward,
        {episode.episode_id: episode},
        tokenizer,
        frozenset({end}),
        group_size=4,
        batch_size=4,
        credit=credit,
        seed=0,
    )
    row = [{"role": "user", "content": "", "episode_id": episode.episode_id}]
    found = sampler([row] * 4 * env.rows_per_play, SaysItsNumber(end, first=300))
    # Drafts are 300 to 303, refinements 304 and 305, then 306 of the second one.
    assert [ids[0] for ids in found["completion_ids"]] == [end, end, 304, 304, 305, 306, end, end]
    assert found["env_mask"] == [[0], [0], [1, 1], [1, 1], [1, 1], [1, 1], [0], [0]]
    assert sampler.metrics["play/unheard"] == 0.5
    judge = Judge([episode], env, reward)
    logged: dict[str, float] = {}
    rewards = EpisodeReward(judge, frozenset({end}), group_size=4, sampler=sampler)(
        completions=[],
        completion_ids=found["completion_ids"],
        episode_id=found["episode_id"],
        log_metric=logged.__setitem__,
        judged=found["judged"],
        turn_credit=found["turn_credit"],
    )
    if credit == "play":
        assert rewards == [None, None, 4.0, 4.0, 9.0, 9.0, None, None]
    else:
        # Without 304 there is 301: 4 - 1, twice. Without 305 there is still 306; without 306
        # there is 305: 9 - 5. All less their mean of (3 + 3 + 0 + 4) / 4.
        assert rewards == [None, None, 0.5, 0.5, -2.5, 1.5, None, None]
        assert sampler.metrics["credit/refiner"] == 2.5


class Calls:
    """An orchestrator that calls one agent in each play, and then stops all of them."""

    def __init__(self, *agents: str) -> None:
        self.said = [agents, ("stop",) * len(agents)]

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply(choice) for choice in self.said.pop(0)]


class SaysOneToken:
    """The policy, whose every answer is one token and the end."""

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply("Ann.", answer=Answer((5,), (6, 9))) for _ in conversations]


@pytest.mark.parametrize(("called", "role"), [("plot", "plot"), ("setting", "conflict")])
def test_rows_that_weigh_nothing_are_in_the_name_of_a_role_that_was_heard_if_any_was(
    called: str, role: str, make_episode: Callable[..., Episode]
) -> None:
    # Only the conflict and the plot are learned from, and in the first play neither is called.
    members = {"ann": Calls("setting", called)}
    cast = Cast(members, {"orchestrator": "ann"}, ("conflict", "plot"))
    env = AgentsRoom(cast=cast, reasons=False, orchestrator="learned", guidance="scratchpad")
    how = (ByPlan(len, unheard=0.0), [make_episode()] * 2, SaysOneToken(), "play", random.Random())
    lessons, metrics = play_lessons(env, *how, end_id=9)
    assert [lesson.role for lesson in lessons] == [role] * 4
    # A token after a token stands for nothing said. What counts is `Plot: Ann.`, of ten letters.
    nothing, said = Answer((9,), (9,), (0.0,)), Answer((5,), (6, 9))
    rows = [(lesson.answer, lesson.reward) for lesson in lessons]
    assert rows[:2] == [(nothing, None)] * 2
    assert rows[2:] == [(said, 10.0) if called == "plot" else (nothing, None)] * 2
    assert metrics["play/unheard"] == (0.5 if called == "plot" else 1.0)


@pytest.mark.parametrize("settings", [GRPO, PPO], ids=["grpo", "ppo"])
@pytest.mark.parametrize("credit", ["play", "turn"])
@pytest.mark.parametrize("heard", ["some", "nobody"])
def test_a_role_that_may_stay_silent_can_be_trained_alone(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
    tmp_path: Path,
    settings: Any,
    credit: str,
    heard: str,
) -> None:
    # Of the two attempts at each of two episodes, those at the first are refined.
    env = refiner_alone(lambda place: place > 1 if heard == "some" else True)
    settings = replace(settings, credit=credit)
    logged = Logged()

    def learned(unheard: float) -> dict[str, bytes]:
        trained = train_policy(
            make_model(),
            tokenizer,
            env,
            ByPlan(lambda plan: float(len(plan)), unheard),
            order_of(world.episodes("train"), settings, seed=0),
            settings,
            output_dir=tmp_path,
            seed=0,
            callbacks=[logged],
        )
        return weights_of(trained)

    found, before = learned(unheard=0.0), weights_of(make_model())
    assert (found == before) is (heard == "nobody")
    # What a play in which it was silent is worth has no part in what it learns.
    assert learned(unheard=1000.0) == found
    unheard = {log["play/unheard"] for log in logged.logs if "play/unheard" in log}
    assert unheard == ({0.5} if heard == "some" else {1.0})
    for log in logged.logs:
        assert all(math.isfinite(log[name]) for name in ("loss", "grad_norm") if name in log)
        assert (log.get("reward") or 0.0) < 500, "what silence was paid is in no mean"


def weights_of(model: PreTrainedModel) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


class Logged(TrainerCallback):
    """Keeps what the trainer logs."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


@pytest.mark.parametrize("settings", [GRPO, PPO], ids=["grpo", "ppo"])
@pytest.mark.parametrize("credit", ["play", "turn"])
def test_a_collaboration_is_learned_from_turn_by_turn(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
    settings: Any,
    credit: str,
) -> None:
    settings = replace(settings, credit=credit)
    env, generator, policy = Feedback(parser=WHOLE, rounds=1), make_model(seed=1), make_model()
    check_trainer(settings, env)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    logged, scored = Logged(), list[Rollout]()
    terms = [WeightedTerm("raw", Raw())]
    trained = train_policy(
        policy,
        tokenizer,
        env,
        LikelihoodImprovement(DenseScorer(generator), encoder, terms, StatusRules(), group_size=2),
        order_of(world.episodes("train"), settings, seed=0),
        settings,
        output_dir=tmp_path,
        seed=0,
        callbacks=[logged],
        on_scored=lambda rollouts, _: scored.extend(rollouts),
    )
    state = trained.state_dict()
    assert any(not state[name].equal(tensor) for name, tensor in before.items())
    # Each play is shown once, whatever its number of rows.
    assert len(scored) % 4 == 0 and all(2 <= len(r.turns) <= 3 for r in scored)
    first = next(log for log in logged.logs if "cost/policy/calls" in log)
    assert math.isfinite(first["loss"] if "loss" in first else first["policy_loss"])
    assert 2 <= first["cost/policy/calls"] <= 3
    assert ("credit/drafter" in first) is (credit == "turn")


def test_rows_are_attempts_times_turns() -> None:
    assert in_rows(GRPO, Feedback(rounds=2)).num_generations == 2 * 5
    assert in_rows(GRPO, Feedback(rounds=2, turns_learned=2)).num_generations == 2 * 2
    assert in_rows(GRPO, SoloPlanner()).num_generations == 2


@pytest.mark.parametrize(
    ("settings", "env", "zero_stage", "complaint"),
    [
        (replace(GRPO, credit="turn"), SoloPlanner(), 0, "trainer.credit: turn is for envs with"),
        (replace(GRPO, max_refills=1), Feedback(), 0, "trainer.max_refills: groups are sampled"),
        (GRPO, Feedback(), 3, "distributed.zero_stage: in ZeRO-3 all processes"),
        (replace(GRPO, per_device_batch_size=7), Feedback(), 0, "trainer.per_device_batch_size"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(
    settings: GrpoSettings, env: Any, zero_stage: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_trainer(settings, env, zero_stage)
