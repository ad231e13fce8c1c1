"""Each trained role learns with adapters of its own, on weights that all of them share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from omegaconf import DictConfig
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.sampling import Sampling
from envs.sources.storyworld import StoryWorldSource
from envs.types import Answer, Conversation, Episode, Message, Reply, Rollout
from envs.voices import speaking, voices
from rewards.types import Score
from train import pipeline
from train.adapters import check_role_adapters, trained_roles
from train.algorithms import order_of
from train.commands.evaluate import kept_models, policy_at
from train.config.build import build
from train.config.validate import parse
from train.export.folder import export
from train.local_member import LocalMember
from train.models import load_model, model_digest, save_model, voice_folders
from train.ppo.actor_critic import ActorCritic
from train.ppo.experience import Padded
from train.ppo.run import train_ppo
from train.ppo.settings import PpoSettings
from train.progress import ProgressDisplay
from train.role_adapters import RoleAdapters
from train.run import Run
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

MakeModel = Callable[..., PreTrainedModel]
Compose = Callable[..., DictConfig]
LORA = PeftLoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
ROLES = ("drafter", "refiner", "verifier")
HOW = Sampling(max_new_tokens=6, temperature=0.0)
ASKED: tuple[Conversation, ...] = (
    (Message("user", "Ann owes Bob a ring."),),
    (Message("user", "Who went to the mill?"),),
)
ANSWERS = [Answer((5, 6, 7), (8, 9)), Answer((10,), (11, 12, 13)), Answer((14, 15), (16,))]


def adapters(model: Any, role: str) -> dict[str, bytes]:
    """The bytes of a role's adapters."""
    return {
        name: weight.detach().numpy().tobytes()
        for name, weight in model.named_parameters()
        if f".{role}." in name
    }


def spoil(model: Any, role: str, seed: int = 1) -> None:
    """Gives a role adapters that change what it says; new ones change nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if f".{role}." in name:
                weight.normal_(std=0.5)


@pytest.fixture
def voiced(make_model: MakeModel) -> PeftModel:
    torch.manual_seed(0)
    return RoleAdapters.on(make_model(), LORA, ROLES)


def test_a_role_speaks_with_its_own_adapters_alone(
    voiced: PeftModel, make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    agent = TransformersAgent(voiced, tokenizer, HOW)  # pyright: ignore[reportArgumentType]
    assert agent.voices == ROLES
    before = {role: agent.reply_as(role, ASKED) for role in ROLES}
    plain = TransformersAgent(make_model(), tokenizer, HOW).reply(ASKED)
    assert all(said == plain for said in before.values())
    spoil(voiced, "verifier")
    after = {role: agent.reply_as(role, ASKED) for role in ROLES}
    changed = {role for role in ROLES if after[role] != before[role]}
    assert changed == {"verifier"}
    assert agent.reply(ASKED) == plain
    assert all(weight.requires_grad is ("lora_" in n) for n, weight in voiced.named_parameters())


def test_the_loss_of_an_answer_moves_its_own_roles_adapters_and_no_others(
    voiced: PeftModel,
) -> None:
    module = ActorCritic(voiced)
    padded = Padded.of(ANSWERS, pad_id=0)
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1
    )
    before = {role: adapters(voiced, role) for role in ROLES}
    voice_N = torch.tensor([0, 2, 0])
    found = module(padded.ids_NT, padded.attention_NT, 3, "both", voice_N)
    (found["logp_NA"] * padded.mask_NA).sum().backward()
    optimizer.step()
    moved = {role for role in ROLES if adapters(voiced, role) != before[role]}
    assert moved == {"drafter", "verifier"}


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_a_batch_of_several_roles_is_each_answer_through_its_own_adapters(
    make_model: MakeModel, critic: Literal["shared", "separate"]
) -> None:
    module = ActorCritic.build(make_model(), critic, 1.0, True, LORA, ROLES).eval()
    for number, role in enumerate(ROLES):
        spoil(module.policy, role, seed=number)
    with torch.no_grad():
        module.critic.head.weight.normal_()
    padded = Padded.of(ANSWERS, pad_id=0)
    voice_N = torch.tensor([2, 0, 2])
    with torch.no_grad():
        together = module(padded.ids_NT, padded.attention_NT, 3, "both", voice_N)
        reference = module(padded.ids_NT, padded.attention_NT, 3, "reference", voice_N)
        for row, number in enumerate(voice_N.tolist()):
            with speaking(module.policy, ROLES[number]):
                logits = module.policy(**module._inputs(padded.ids_NT, padded.attention_NT)).logits
            logp = logits[row, -4:-1].log_softmax(-1)
            alone = logp[range(3), padded.ids_NT[row, -3:]]
            torch.testing.assert_close(together["logp_NA"][row], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together["logp_NA"], reference["logp_NA"], atol=1e-3)
    if critic == "shared":
        other = module(padded.ids_NT, padded.attention_NT, 3, "critic", torch.tensor([0, 0, 2]))
        same = (together["value_NA"] == other["value_NA"]).all(1).tolist()
        assert same[1:] == [True, True] and not same[0]


class WordReward:
    """A point for each letter e that anybody of the play has said."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        said = [sum(turn.reply.text.count("e") for turn in r.turns) for r in rollouts]
        return [
            Score(r.episode.episode_id, float(points), None, None, None)
            for r, points in zip(rollouts, said, strict=True)
        ]


def feedback(*trained: str) -> Feedback:
    return Feedback(
        parser=PlanParser(whole_answer_without_marker=True), cast=Cast(trained=trained), rounds=1
    )


PPO = PpoSettings(
    max_steps=4,
    num_generations=2,
    episodes_per_rollout=2,
    epochs_per_rollout=2,
    per_device_batch_size=2,
    max_completion_length=6,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    beta=0.1,
    save_steps=1,
)


def test_a_resumed_run_ends_with_the_adapters_of_an_uninterrupted_one(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
    tmp_path: Path,
) -> None:
    def train(resume_from: Path | None = None) -> PeftModel:
        return train_ppo(  # pyright: ignore[reportReturnType]
            make_model(),
            tokenizer,
            feedback("drafter", "verifier"),
            WordReward(),
            order_of(world.episodes("train"), PPO, seed=0),
            PPO,
            output_dir=tmp_path,
            seed=0,
            resume_from=resume_from,
            peft_config=LORA,
            roles=("drafter", "verifier"),
        )

    start = RoleAdapters.on(make_model(), LORA, ("drafter", "verifier"))
    whole = train()
    assert voices(whole) == ("drafter", "verifier")
    ends = {role: adapters(whole, role) for role in voices(whole)}
    assert all(ends[role] != adapters(start, role) for role in ends)
    assert list(ends["drafter"].values()) != list(ends["verifier"].values())
    # Under it the weights that all share are as they were.
    untouched = {n: w.numpy().tobytes() for n, w in make_model().state_dict().items()}
    shared = {n: w.numpy().tobytes() for n, w in whole.unload().state_dict().items()}
    assert shared == untouched
    # In the middle of a rollout.
    shutil.rmtree(tmp_path / "checkpoint-4")
    resumed = train(tmp_path / "checkpoint-1")
    assert {role: adapters(resumed, role) for role in ends} == ends


def test_adapters_of_other_roles_are_not_gone_on_with(
    make_model: MakeModel, tmp_path: Path
) -> None:
    one = ActorCritic.build(make_model(), "shared", 1.0, False, LORA, ("drafter",))
    one.save(tmp_path, one.state_dict())
    other = ActorCritic.build(make_model(), "shared", 1.0, False, LORA, ("drafter", "refiner"))
    with pytest.raises(ValueError, match=r"adapters of the roles \['drafter'\], and this run"):
        other.load(tmp_path)


def test_a_folder_with_adapters_by_role_speaks_as_it_did_and_is_a_member_of_its_own(
    voiced: PeftModel,
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    make_episode: Callable[..., Episode],
    tmp_path: Path,
) -> None:
    for number, role in enumerate(ROLES):
        spoil(voiced, role, number)
    save_model(make_model(), tokenizer, tmp_path)
    config = ModelConfig(path=str(tmp_path))
    plain = model_digest(config)
    voiced.save_pretrained(str(tmp_path))
    assert model_digest(config) != plain
    model, _ = load_model(config, "model")
    agent = TransformersAgent(model, tokenizer, HOW)
    member = LocalMember(config, HOW)
    said: dict[str, list[Reply]] = {}
    for role in ROLES:
        was = TransformersAgent(voiced, tokenizer, HOW)  # pyright: ignore[reportArgumentType]
        said[role] = agent.reply_as(role, ASKED)
        assert said[role] == was.reply_as(role, ASKED) == member.reply_as(role, ASKED)
    assert said["drafter"] != said["verifier"]
    # In a play it speaks in each role as that role.
    env = replace(feedback(), cast=Cast({"ann": member}, {"verifier": "ann"}))
    (rollout,) = env.play([make_episode()], agent)
    for turn in rollout.turns:
        assert [turn.reply] == agent.reply_as(turn.role, [turn.prompt])


SMALL = (
    *("policy=lora", "env=feedback", "env.rounds=1", "policy.lora.per_role=true"),
    *("env.cast.trained=[drafter,refiner]", "env.parser.pattern=null", "monitors=off"),
    *("data.demonstration_books=2", "data.train_books=2", "data.test_books=2", "warm_start=null"),
    *("env.parser.whole_answer_without_marker=true", "reward.rules.truncated=score"),
    *("sft_baseline=null", "trainer.max_steps=2", "trainer.save_steps=1"),
    "trainer.num_generations=2",
    *("trainer.per_device_batch_size=4", "trainer.max_completion_length=12"),
    *("sampling.max_new_tokens=12", "evaluation.max_episodes=2"),
    *("evaluation.bootstrap_samples=100", "logging.wandb=disabled", "logging.tensorboard=false"),
)


@pytest.mark.parametrize(
    "trainer",
    [
        ("trainer=ppo", "trainer.episodes_per_rollout=2"),
        ("trainer=grpo", "trainer.episodes_per_step=2"),
    ],
    ids=["ppo", "grpo"],
)
def test_a_run_keeps_evaluates_and_exports_the_adapters_of_all_roles(
    compose_train: Compose, tmp_path: Path, trainer: tuple[str, ...]
) -> None:
    composed = compose_train(
        *SMALL, *trainer, f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"
    )
    config = parse(RunConfig, composed)
    run = Run.prepare(config, ProgressDisplay())
    with RunFolder.create(tmp_path / "run", composed) as folder:
        evaluation = pipeline.train(run, folder)
    assert evaluation.row("empty_plan").improvement.mean == 0.0
    for place in (folder.policy_dir, folder.checkpoints_dir / "checkpoint-2"):
        assert list(voice_folders(place)) == ["drafter", "refiner"]
    ends = {}
    kept = kept_models(folder, config)
    prepared = Run.prepare(config, ProgressDisplay(), kept, is_trained=True)
    for place in (folder.policy_dir, folder.checkpoints_dir / "checkpoint-2"):
        model, _ = load_model(policy_at(place, prepared, folder), "policy.model")
        assert voices(model) == ("drafter", "refiner")
        ends[place.name] = [adapters(model, role) for role in voices(model)]
    assert ends["policy"] == ends["checkpoint-2"]
    target = export(folder.policy_dir, folder, tmp_path / "exported")
    model, _ = load_model(ModelConfig(path=str(target)), "model")
    assert [adapters(model, role) for role in voices(model)] == ends["policy"]
    assert "set_adapter" in (target / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["env=solo"], "is for envs with several roles"),
        (["env=debate", "trainer.sampler=vllm_colocate"], "trainer.sampler=vllm_colocate answers"),
        (
            ["env=debate", "trainer.sampler=continuous_batching"],
            "trainer.sampler=continuous_batching answers with one set of adapters",
        ),
        (["env=debate", "trainer.gradient_checkpointing=true"], "with trainer.gradient_check"),
        (
            ["env=debate", "trainer=ppo", "trainer.gradient_checkpointing=true"],
            "with trainer.gradient_checkpointing",
        ),
        (["env=debate", "trainer=ppo", "distributed=zero2"], "under DeepSpeed"),
        (["env=debate", "distributed=zero2"], "under DeepSpeed"),
    ],
)
def test_where_rows_would_go_through_other_roles_adapters_it_is_refused(
    compose_train: Compose, overrides: list[str], says: str
) -> None:
    composed = compose_train("policy=lora", "policy.lora.per_role=true", *overrides)
    config = parse(RunConfig, composed)
    env = build(config.env, "env", prompts=config.prompts)
    with pytest.raises(ValueError, match=rf"policy\.lora\.per_role: .*{says}"):
        check_role_adapters(config, env)


def test_the_roles_that_learn_are_those_that_get_adapters(compose_train: Compose) -> None:
    given = ("policy=lora", "trainer=ppo", "env=feedback", "env.cast.trained=[verifier,drafter]")
    for per_role, roles in (("true", ("drafter", "verifier")), ("false", ())):
        config = parse(RunConfig, compose_train(*given, f"policy.lora.per_role={per_role}"))
        env = build(config.env, "env", prompts=config.prompts)
        check_role_adapters(config, env)
        assert trained_roles(config, env) == roles
