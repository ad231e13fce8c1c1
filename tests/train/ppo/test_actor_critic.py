"""Policy, critic and reference in one module say what each of them says alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from envs.types import Answer
from train.ppo.actor_critic import CRITIC_FILE, ActorCritic
from train.ppo.experience import Padded

MakeModel = Callable[..., PreTrainedModel]
LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
ANSWERS = [Answer((5, 6, 7), (8, 9)), Answer((10,), (11, 12, 13)), Answer((14, 15), (16,))]
FAMILIES = {
    "llama": {},
    "gpt2": {},
    "lfm2": {
        "layer_types": ["conv", "full_attention"],
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": False,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_each_answer_alone(
    make_model: MakeModel, family: str
) -> None:
    policy = make_model(family, **FAMILIES[family]).eval()
    padded = Padded.of(ANSWERS, pad_id=0)
    module = ActorCritic.build(policy, "shared", temperature=0.5, with_reference=True).eval()
    with torch.no_grad():
        found = module(padded.ids_NT, padded.attention_NT, 3)
        reference = module(padded.ids_NT, padded.attention_NT, 3, "reference")
        for row, answer in enumerate(ANSWERS):
            ids = torch.tensor([answer.prompt_ids + answer.ids])
            logp = (policy(ids).logits[0, :-1] / 0.5).log_softmax(-1)
            alone = logp[range(-len(answer.ids), 0), list(answer.ids)]
            for said in (found, reference):
                together = said["logp_NA"][row, : len(answer.ids)]
                torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_values_start_at_zero_and_are_of_the_state_before_each_token(
    make_model: MakeModel, critic: str
) -> None:
    module = ActorCritic.build(make_model(), critic, 1.0, with_reference=False).eval()
    padded = Padded.of(ANSWERS, pad_id=0)
    assert module(padded.ids_NT, padded.attention_NT, 3)["value_NA"].abs().max() == 0.0

    with torch.no_grad():
        module.critic.head.weight.normal_()
    before = module(padded.ids_NT, padded.attention_NT, 3)["value_NA"]
    alone = module(padded.ids_NT, padded.attention_NT, 3, "critic")["value_NA"]
    torch.testing.assert_close(before, alone)
    # Another last token of the second answer changes no value: all were given before it was said.
    padded.ids_NT[1, -1] = 20
    after = module(padded.ids_NT, padded.attention_NT, 3)["value_NA"]
    assert torch.equal(before, after)
    # Another first token changes the values of what comes after it, and not its own.
    padded.ids_NT[1, -3] = 20
    after = module(padded.ids_NT, padded.attention_NT, 3)["value_NA"]
    assert (after != before)[1].tolist() == [False, True, True]


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_critic_alone_leaves_the_policy_without_gradient(
    make_model: MakeModel, critic: str
) -> None:
    module = ActorCritic.build(make_model(), critic, 1.0, with_reference=False)
    padded = Padded.of(ANSWERS, pad_id=0)
    module(padded.ids_NT, padded.attention_NT, 3, "critic")["value_NA"].sum().backward()
    assert all(p.grad is None for p in module.policy.parameters())
    assert module.critic.head.weight.grad is not None


def test_without_its_adapters_the_policy_is_its_own_reference(make_model: MakeModel) -> None:
    module = ActorCritic.build(make_model(), "shared", 1.0, True, LORA).eval()
    padded = Padded.of(ANSWERS, pad_id=0)
    with torch.no_grad():
        before = module(padded.ids_NT, padded.attention_NT, 3)["logp_NA"]
        for name, weight in module.policy.named_parameters():
            if "lora_B" in name:
                weight.normal_()
        after = module(padded.ids_NT, padded.attention_NT, 3)["logp_NA"]
        reference = module(padded.ids_NT, padded.attention_NT, 3, "reference")["logp_NA"]
    assert module.reference is None
    assert torch.equal(reference, before)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("critic", ["shared", "separate"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_policy_loads_without_us_and_the_critic_from_a_file_of_its_own(
    make_model: MakeModel, tmp_path: Path, critic: str, lora: LoraConfig | None
) -> None:
    base, other = make_model(seed=1), make_model(seed=1 if lora else 2)
    base.save_pretrained(tmp_path / "base")
    module = ActorCritic.build(base, critic, 1.0, False, lora)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight))
    module.save(tmp_path / "checkpoint", module.state_dict())

    ids = torch.tensor([[5, 6, 7]])
    expected = module.policy.eval()(ids).logits
    if lora is None:
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint").eval()
    else:
        fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        plain = PeftModel.from_pretrained(fresh, str(tmp_path / "checkpoint")).eval()
    torch.testing.assert_close(plain(ids).logits, expected)
    kept = load_file(tmp_path / "checkpoint" / CRITIC_FILE)
    assert torch.equal(kept["head.weight"], module.critic.head.weight)

    again = ActorCritic.build(other, critic, 1.0, False, lora)
    again.load(tmp_path / "checkpoint")
    padded = Padded.of(ANSWERS, pad_id=0)
    for name, value in module.eval()(padded.ids_NT, padded.attention_NT, 3).items():
        assert torch.equal(again.eval()(padded.ids_NT, padded.attention_NT, 3)[name], value)


def test_a_checkpoint_of_another_model_or_critic_is_refused(
    make_model: MakeModel, tmp_path: Path
) -> None:
    module = ActorCritic.build(make_model(), "shared", 1.0, False)
    module.save(tmp_path, module.state_dict())
    with pytest.raises(ValueError, match=r"critic\.safetensors: holds no critic of this kind"):
        ActorCritic.build(make_model(), "separate", 1.0, False).load(tmp_path)
    with pytest.raises(ValueError, match=r"holds no checkpoint of this policy"):
        ActorCritic.build(make_model("gpt2"), "shared", 1.0, False).load(tmp_path)
    with pytest.raises(ValueError, match=r"holds no checkpoint of this policy"):
        ActorCritic.build(make_model(), "shared", 1.0, False, LORA).load(tmp_path)
