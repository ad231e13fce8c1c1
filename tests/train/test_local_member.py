"""A frozen local model takes part in a play as it would answer alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.sampling import Sampling
from envs.types import Cost, Episode, Message
from train.local_member import LocalMember, member_weights
from train.models import save_model
from train.schema import ModelConfig

HOW = Sampling(max_new_tokens=5, temperature=0.0)


@pytest.fixture
def member(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> LocalMember:
    save_model(make_model(), tokenizer, tmp_path / "model")
    return LocalMember(ModelConfig(path=str(tmp_path / "model")), HOW)


def test_a_member_answers_as_its_model_does(
    member: LocalMember,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    talk = [(Message("user", "Ann owes Bob."),), (Message("user", "Who?"),)]
    assert member.reply(talk) == TransformersAgent(make_model(), tokenizer, HOW).reply(talk)


def test_what_a_member_draws_goes_by_what_it_is_asked_and_not_by_how_often(
    member: LocalMember,
) -> None:
    sampled = replace(member, sampling=Sampling(max_new_tokens=5, temperature=2.0))
    talk = [(Message("user", "Ann owes Bob."),)] * 4
    first = sampled.reply(talk)
    assert len({reply.text for reply in first}) > 1
    sampled.reply([(Message("user", "Who?"),)])
    assert sampled.reply(talk) == replace(sampled).reply(talk) == first


def test_other_weights_at_the_same_path_are_another_member(
    member: LocalMember,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    env = Feedback(cast=Cast({"ann": member}, {"verifier": "ann"}))
    before = member_weights(env)
    assert list(before) == ["ann"]
    save_model(make_model(seed=5), tokenizer, tmp_path / "model")
    assert member_weights(env) != before


def test_a_member_plays_its_role_and_its_cost_is_its_own(
    member: LocalMember,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    make_episode: Callable[..., Episode],
) -> None:
    env = Feedback(
        parser=PlanParser(whole_answer_without_marker=True),
        cast=Cast({"ann": member}, {"verifier": "ann"}),
        rounds=1,
    )
    policy = TransformersAgent(make_model(seed=3), tokenizer, HOW)
    (rollout,) = env.play([make_episode()], policy)
    assert [turn.member for turn in rollout.turns][:2] == ["policy", "ann"]
    read = sum(t.reply.usage.read_tokens for t in rollout.turns if t.member == "ann")
    weights = sum(weight.numel() for weight in policy.model.parameters())
    operations = pytest.approx(2 * weights * (read + 5) / 1e9)
    assert rollout.costs["ann"] == Cost(1, read, 5, giga_operations=operations)


def test_a_member_that_is_not_there_is_refused_before_it_is_asked() -> None:
    with pytest.raises(ValueError, match=r"model\.path: names the member's model"):
        LocalMember(ModelConfig())
    with pytest.raises(ValueError, match=r"model\.path: no usable model at 'nowhere/at/all'"):
        LocalMember(ModelConfig(path="nowhere/at/all"))
