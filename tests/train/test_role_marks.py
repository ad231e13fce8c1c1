"""GRPO learns each row through the adapters of its role, which a mark before the prompt tells."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from trl.trainer.utils import add_fused_lm_head, use_adapter

from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.sources.storyworld import StoryWorldSource
from envs.tokens import end_id
from envs.types import Answer, Episode, Message, Rollout
from envs.voices import speaking, voices
from rewards.types import Score
from train.algorithms import order_of
from train.grpo import train_grpo
from train.models import load_model, save_model, voice_folders
from train.play_sampler import PlaySampler, TrlPolicy
from train.ppo.experience import Padded
from train.role_marks import MarkedRoleAdapters, marked
from train.schema import ModelConfig
from train.settings.grpo import GrpoSettings

MakeModel = Callable[..., PreTrainedModel]
LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
ROLES = ("drafter", "refiner", "verifier")
SPOKEN = ("verifier", "drafter", "verifier", "refiner")
ANSWERS = [
    Answer((5, 6, 7), (8, 9)),
    Answer((10,), (11, 12, 13)),
    Answer((14, 15), (16,)),
    Answer((17, 18, 19, 20), (21, 22, 23)),
]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "lfm2": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
}


def adapters(model: Any, role: str) -> dict[str, bytes]:
    """The bytes of a role's adapters."""
    named = model.named_parameters()
    return {n: w.detach().numpy().tobytes() for n, w in named if f".{role}." in n}


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """The answers as TRL lays them out, each with its mark: ids, attention, and labels."""
    own = [
        replace(a, prompt_ids=tuple(marked(a.prompt_ids, role, ROLES)))
        for a, role in zip(ANSWERS, SPOKEN, strict=True)
    ]
    padded = Padded.of(own, pad_id=0)
    labels = padded.ids_NT.masked_fill(padded.attention_NT == 0, -100)
    labels[:, :-3] = -100
    return padded.ids_NT, padded.attention_NT, labels


@pytest.fixture(params=FAMILIES)
def policy(request: pytest.FixtureRequest, make_model: MakeModel) -> MarkedRoleAdapters:
    """A policy whose roles differ in what they say, with TRL's head."""
    torch.manual_seed(0)
    plain = make_model(request.param, **FAMILIES[request.param])
    made = MarkedRoleAdapters.on(plain, LORA, ROLES)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    add_fused_lm_head(made.get_base_model(), outputs=("log_probs", "entropy"))
    return made.eval()


def said_alone(policy: MarkedRoleAdapters, answer: Answer) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of an answer that has neither mark nor padding about it."""
    ids = torch.tensor([answer.prompt_ids + answer.ids])
    logits = policy.get_base_model()(ids).logits[0, len(answer.prompt_ids) - 1 : -1]
    logp = logits.log_softmax(-1)
    return logp[range(len(answer.ids)), list(answer.ids)], -(logp.exp() * logp).sum(-1)


def assert_says(policy: MarkedRoleAdapters, row: int, found: Any) -> None:
    logp, entropy = said_alone(policy, ANSWERS[row])
    width = len(logp)
    ends = slice(-3, width - 3 or None)
    torch.testing.assert_close(found.log_probs[row, ends], logp, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.entropy[row, ends], entropy, atol=1e-5, rtol=1e-5)


def test_a_marked_row_is_the_answer_without_mark_through_its_own_adapters(
    policy: MarkedRoleAdapters,
) -> None:
    ids, attention, labels = rows()
    with torch.no_grad():
        found = policy(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
        for row, role in enumerate(SPOKEN):
            with speaking(policy, role):
                assert_says(policy, row, found)
        # The same words in another role are worth something else.
        ids[0, 0] = ROLES.index("drafter")
        ids[0, attention[0].argmax()] = ROLES.index("drafter")
        other = policy(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
    same = [torch.allclose(a, b) for a, b in zip(found.log_probs, other.log_probs, strict=True)]
    assert same == [False, True, True, True]


def test_the_reference_is_the_shared_weights_and_all_roles_learn_afterwards(
    policy: MarkedRoleAdapters,
) -> None:
    ids, attention, labels = rows()
    learning = {n: w.requires_grad for n, w in policy.named_parameters()}
    assert set(learning.values()) == {True, False}
    with torch.no_grad():
        # As TRL turns adapters off.
        with use_adapter(policy, None):
            found = policy(
                input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True
            )
        with speaking(policy):
            for row in range(len(ANSWERS)):
                assert_says(policy, row, found)
    assert {n: w.requires_grad for n, w in policy.named_parameters()} == learning


def test_the_loss_of_a_row_moves_its_own_roles_adapters_and_no_others(
    policy: MarkedRoleAdapters,
) -> None:
    ids, attention, labels = (part[:3] for part in rows())
    before = {role: adapters(policy, role) for role in ROLES}
    learning = [w for w in policy.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.1, weight_decay=0.1)
    found = policy(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
    (-found.log_probs.sum()).backward()
    optimizer.step()
    moved = {role for role in ROLES if adapters(policy, role) != before[role]}
    assert moved == {"drafter", "verifier"}


def test_a_loss_over_a_whole_batch_of_experts_is_refused(policy: MarkedRoleAdapters) -> None:
    ids, attention, labels = rows()
    with pytest.raises(ValueError, match=r"policy\.lora\.per_role: .*output_router_logits=false"):
        policy(input_ids=ids, attention_mask=attention, labels=labels, output_router_logits=True)


class NamesItsVoice:
    """TRL's sampler as `PlaySampler` calls it: it says and keeps whose adapters were on."""

    def __init__(self, model: MarkedRoleAdapters, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.heard: list[str] = []
        self.prompts: list[list[int]] = []
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(process_index=0)

    def _generate_single_turn(
        self, prompt_ids: Sequence[list[int]], images: Any, fields: Any, num_generations: int
    ) -> tuple[list[list[int]], None]:
        self.heard.append("" if self.model.is_plain else str(self.model.active_adapter))
        self.prompts += [list(ids) for ids in prompt_ids]
        answer = [*self.tokenizer(f"{self.heard[-1]}.")["input_ids"], end_id(self.tokenizer)]
        return [answer for _ in prompt_ids], None


def test_roles_answer_with_their_own_adapters_and_their_rows_say_whose_they_are(
    policy: MarkedRoleAdapters,
    tokenizer: PreTrainedTokenizerBase,
    make_episode: Callable[..., Episode],
) -> None:
    trl, end = NamesItsVoice(policy, tokenizer), end_id(tokenizer)
    episode = make_episode()
    env = Feedback(parser=PlanParser(whole_answer_without_marker=True), rounds=1)
    sampler = PlaySampler(
        env,
        WordReward(),
        {episode.episode_id: episode},
        tokenizer,
        frozenset({end}),
        group_size=2,
        batch_size=4,
        credit="play",
        seed=0,
    )
    row = [{"role": "user", "content": "", "episode_id": episode.episode_id}]
    found = sampler([row] * 2 * env.rows_per_play, trl)
    assert trl.heard == ["drafter", "verifier", "refiner"]
    assert [ids[0] for ids in found["prompt_ids"]] == [0, 2, 1, 0, 2, 1]
    # What was asked has no mark in it: two drafts, two verifications, two refinements.
    assert [ids[1:] for ids in found["prompt_ids"]] == trl.prompts[0::2] + trl.prompts[1::2]
    # A role that does not learn speaks without adapters.
    TrlPolicy(trl, tokenizer, frozenset({end}), 4).reply([(Message("user", "Hm?"),)])
    assert trl.heard[-1] == ""


class WordReward:
    """A point for each letter e that anybody of the play has said."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        said = [sum(turn.reply.text.count("e") for turn in r.turns) for r in rollouts]
        return [
            Score(r.episode.episode_id, float(points), None, None, None)
            for r, points in zip(rollouts, said, strict=True)
        ]


class Logged(TrainerCallback):
    """Keeps what the trainer logs by step, save what it measures by the clock."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.steps[state.global_step] = {n: v for n, v in logs.items() if n != "step_time"}


# A play has three turns, of which two learn: eight rows to a step, in two micro-batches.
GRPO = GrpoSettings(
    max_steps=4,
    num_generations=2,
    episodes_per_step=2,
    per_device_batch_size=4,
    max_completion_length=6,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    beta=0.1,
    save_steps=2,
    trl={"weight_decay": 0.1},
)
Train = Callable[..., tuple[PreTrainedModel, dict[int, dict[str, float]]]]


@pytest.fixture
def train(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
    tmp_path: Path,
) -> Train:
    """Trains drafter and verifier; the refiner has adapters as well, but no row."""

    def train(
        resume_from: Path | None = None, turns_learned: int | None = None, **changed: Any
    ) -> tuple[PreTrainedModel, dict[int, dict[str, float]]]:
        settings, logged = replace(GRPO, **changed), Logged()
        env = Feedback(
            parser=PlanParser(whole_answer_without_marker=True),
            cast=Cast(trained=("drafter", "verifier")),
            rounds=1,
            turns_learned=turns_learned,
        )
        trained = train_grpo(
            make_model(),
            tokenizer,
            env,
            WordReward(),
            order_of(world.episodes("train"), settings, seed=0),
            settings,
            output_dir=tmp_path,
            seed=0,
            callbacks=[logged],
            resume_from=resume_from,
            peft_config=LORA,
            roles=ROLES,
        )
        return trained, logged.steps

    return train


@pytest.mark.parametrize(
    "changed",
    [
        {"num_iterations": 2, "credit": "turn"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"beta": 0.0}, marks=pytest.mark.slow),
        pytest.param({"turns_learned": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_roles_that_speak_learn_and_a_resumed_run_ends_bit_for_bit_as_a_whole_one(
    train: Train, make_model: MakeModel, tmp_path: Path, changed: dict[str, Any]
) -> None:
    policy = make_model()
    set_seed(0)
    start = MarkedRoleAdapters.on(policy, LORA, ROLES)
    whole, logged = train(**changed)
    assert voices(whole) == ROLES
    ends = {role: adapters(whole, role) for role in ROLES}
    moved = {role for role in ROLES if ends[role] != adapters(start, role)}
    assert moved == {"drafter", "verifier"}
    assert list(ends["drafter"].values()) != list(ends["verifier"].values())
    assert list(voice_folders(tmp_path / "checkpoint-2")) == list(ROLES)
    shared = {n: w.numpy().tobytes() for n, w in whole.unload().state_dict().items()}
    assert shared == {n: w.numpy().tobytes() for n, w in make_model().state_dict().items()}
    shutil.rmtree(tmp_path / "checkpoint-4")
    resumed, logged_after = train(tmp_path / "checkpoint-2", **changed)
    assert {role: adapters(resumed, role) for role in ROLES} == ends
    assert logged_after == {step: logs for step, logs in logged.items() if step > 2}
    assert any(logs["grad_norm"] > 0 for logs in logged_after.values())


def test_what_a_run_keeps_is_loaded_with_a_voice_for_each_role(
    train: Train, make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trained, _ = train(max_steps=2)
    save_model(make_model(), tokenizer, tmp_path / "base")
    config = ModelConfig(path=str(tmp_path / "base"), adapter=str(tmp_path / "checkpoint-2"))
    model, _ = load_model(config, "model")
    assert voices(model) == ROLES
    for role in ROLES:
        assert list(adapters(model, role).values()) == list(adapters(trained, role).values())
