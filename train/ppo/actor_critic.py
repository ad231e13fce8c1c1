"""Policy, critic and reference as one module, so that DDP and DeepSpeed wrap one module."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from envs.voices import speaking, voices
from train.ppo.losses import token_logprobs
from train.role_adapters import RoleAdapters, missing_adapters

# N answers, T tokens, A answer tokens, H hidden size.

CRITIC_FILE = "critic.safetensors"
Part = Literal["both", "critic", "reference"]


class Critic(nn.Module):
    """The value of each state: a linear head, on a trunk of its own or on the policy's.

    The head starts at zero, so that the first values are all 0 and not noise.
    """

    def __init__(self, hidden_size: int, trunk: nn.Module | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden_NAH: Tensor) -> Tensor:
        # Values in bfloat16 would have three digits.
        with torch.autocast(hidden_NAH.device.type, enabled=False):
            return self.head(hidden_NAH.to(self.head.weight.dtype))[..., 0].float()


class ActorCritic(nn.Module):
    """What each token of an answer was worth to the policy and to the critic.

    `reference` is the policy before reinforcement; an adapted policy needs no copy, as it is its
    own reference without the adapters.
    """

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        critic_trunk: nn.Module | None = None,
        reference: PreTrainedModel | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.critic = Critic(self.config.get_text_config().hidden_size, critic_trunk)
        self.reference = reference
        self.temperature = temperature

    @classmethod
    def build(
        cls,
        policy: PreTrainedModel,
        critic: Literal["separate", "shared"],
        temperature: float,
        with_reference: bool,
        peft_config: PeftConfig | None = None,
        roles: Sequence[str] = (),
    ) -> ActorCritic:
        """Copies the policy where critic or reference need one, then adds adapters if wanted: for
        each of the `roles`, or one set for all."""
        trunk = copy.deepcopy(policy.base_model) if critic == "separate" else None
        if peft_config is None:
            reference = copy.deepcopy(policy).requires_grad_(False) if with_reference else None
            return cls(policy, trunk, reference, temperature)
        if trunk is not None:
            # Without the task, peft takes it for what it is: a model without a language head.
            bare = copy.deepcopy(peft_config)
            bare.task_type = None
            trunk = get_peft_model(cast(PreTrainedModel, trunk), bare)
        if roles:
            return cls(RoleAdapters.on(policy, peft_config, roles), trunk, None, temperature)
        # peft writes the names of the modules that it found into the config that it is given.
        adapted = cast(PeftModel, get_peft_model(policy, copy.deepcopy(peft_config)))
        return cls(adapted, trunk, None, temperature)

    @property
    def config(self) -> Any:
        return self.policy.config

    @property
    def generation_config(self) -> Any:
        return self.policy.generation_config

    def activation_checkpointing_enable(self, **how: Any) -> None:
        """transformers' Trainer asks for this."""
        for model in (self.policy, self.critic.trunk):
            if model is not None:
                cast(PreTrainedModel, model).activation_checkpointing_enable(**how)

    @property
    def voices(self) -> tuple[str, ...]:
        """The roles with adapters of their own, as `voice_N` numbers them."""
        return voices(self.policy)

    def forward(
        self,
        ids_NT: Tensor,
        attention_NT: Tensor,
        num_answer_tokens: int,
        part: Part = "both",
        voice_N: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`logp_NA` and `entropy_NA` of the answers' tokens, `value_NA` of the states before them.

        The answers are the last columns. `critic` gives values alone, and of what a shared critic
        has only its head a gradient; `reference` gives log-probabilities alone, without gradient.
        `voice_N` says whose adapters each answer goes through, where there are any by role.
        """
        inputs = self._inputs(ids_NT, attention_NT)
        if part == "reference":
            with torch.no_grad():
                return self._logprobs(self._reference(inputs, num_answer_tokens), ids_NT)
        if part == "critic":
            hidden_NTH = self._critic_hidden(inputs, voice_N)
            return {"value_NA": self._values(hidden_NTH, num_answer_tokens)}
        is_shared = self.critic.trunk is None
        output = self._policy(inputs, voice_N, num_answer_tokens + 1, is_shared)
        hidden_NTH = output.hidden_states[-1] if is_shared else self._critic_hidden(inputs, voice_N)
        values = {"value_NA": self._values(hidden_NTH, num_answer_tokens)}
        return {**self._logprobs(output, ids_NT), **values}

    def _inputs(self, ids_NT: Tensor, attention_NT: Tensor) -> dict[str, Any]:
        inputs = {"input_ids": ids_NT, "attention_mask": attention_NT, "use_cache": False}
        policy = self.policy.get_base_model() if isinstance(self.policy, PeftModel) else self.policy
        if "position_ids" in inspect.signature(policy.forward).parameters:
            # As in sampling: the first token that is no padding is the first.
            inputs["position_ids"] = (attention_NT.cumsum(1) - 1).clamp(min=0)
        return inputs

    def _reference(self, inputs: Mapping[str, Any], num_answer_tokens: int) -> Any:
        if self.reference is not None:
            return self.reference(**inputs, logits_to_keep=num_answer_tokens + 1)
        assert isinstance(self.policy, PeftModel)
        # peft lets only the active adapters learn when they are on again.
        with speaking(self.policy) if self.voices else self.policy.disable_adapter():
            return self.policy(**inputs, logits_to_keep=num_answer_tokens + 1)

    def _logprobs(self, output: Any, ids_NT: Tensor) -> dict[str, Tensor]:
        # What stands before a token predicts it.
        logits = output.logits[:, :-1]
        answers_NA = ids_NT[:, -logits.shape[1] :]
        logp_NA, entropy_NA = token_logprobs(logits, answers_NA, self.temperature)
        return {"logp_NA": logp_NA, "entropy_NA": entropy_NA}

    def _policy(
        self, inputs: Mapping[str, Any], voice_N: Tensor | None, kept: int, with_hidden: bool
    ) -> Any:
        """What the policy says of all rows, those of each role through its adapters.

        peft mixes adapters within a batch for inference alone.
        """
        how = {"logits_to_keep": kept, "output_hidden_states": with_hidden}
        if not self.voices:
            return self.policy(**inputs, **how)
        assert voice_N is not None
        rows, said = [], []
        for number in voice_N.unique().tolist():
            own = (voice_N == number).nonzero()[:, 0]
            with speaking(self.policy, self.voices[number]):
                said.append(self.policy(**_rows_of(inputs, own), **how))
            rows.append(own)
        back = torch.cat(rows).argsort()
        last = [torch.cat([s.hidden_states[-1] for s in said])[back]] if with_hidden else []
        return SimpleNamespace(logits=torch.cat([s.logits for s in said])[back], hidden_states=last)

    def _critic_hidden(self, inputs: Mapping[str, Any], voice_N: Tensor | None) -> Tensor:
        if self.critic.trunk is not None:
            return self.critic.trunk(**inputs).last_hidden_state
        with torch.no_grad():
            output = self._policy(inputs, voice_N, 1, True)
        return output.hidden_states[-1]

    def _values(self, hidden_NTH: Tensor, num_answer_tokens: int) -> Tensor:
        return self.critic(hidden_NTH[:, -num_answer_tokens - 1 : -1])

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """The policy for plain `from_pretrained` or peft's, and beside it what the critic learned.

        `state` is the state of this module, from wherever its shards were gathered.
        """
        policy = {n.removeprefix("policy."): t for n, t in state.items() if n.startswith("policy.")}
        self.policy.save_pretrained(str(folder), state_dict=policy)
        critic = {n: state[f"critic.{n}"] for n in self._critic_names()}
        save_file({n: t.contiguous().cpu() for n, t in critic.items()}, folder / CRITIC_FILE)

    def load(self, folder: Path) -> None:
        """What `save` left.

        Raises:
            ValueError: it is of another model, or of another kind of critic.
        """
        if isinstance(self.policy, RoleAdapters):
            self.policy.restore(folder)
            self._load_critic(folder)
            return
        state: dict[str, Tensor] = {}
        pattern = "adapter_model*" if isinstance(self.policy, PeftModel) else "model*"
        for path in sorted(folder.glob(f"{pattern}.safetensors")):
            state |= load_file(path)
        if isinstance(self.policy, PeftModel):
            missing = missing_adapters(self.policy, state)
        else:
            missing = _missing_weights(self.policy, state)
        if missing:
            raise ValueError(
                f"{folder}: holds no checkpoint of this policy, as {missing[0]} is missing in it; "
                "resume with the model and the policy settings that it was trained with"
            )
        self._load_critic(folder)

    def _load_critic(self, folder: Path) -> None:
        critic = load_file(folder / CRITIC_FILE) if (folder / CRITIC_FILE).is_file() else {}
        if set(critic) != set(self._critic_names()):
            raise ValueError(
                f"{folder / CRITIC_FILE}: holds no critic of this kind; resume with the "
                "trainer.critic that it was trained with"
            )
        self.critic.load_state_dict(critic, strict=False)

    def _critic_names(self) -> list[str]:
        return [name for name, p in self.critic.named_parameters() if p.requires_grad]


def _missing_weights(policy: PreTrainedModel, state: Mapping[str, Tensor]) -> list[str]:
    """Loads what is there; what is missing. Of tied weights one name is saved."""
    found = policy.load_state_dict(state, strict=False)
    named = dict(policy.named_parameters(remove_duplicate=False))
    loaded = {id(named[name]) for name in state if name in named}
    return [n for n in found.missing_keys if n not in named or id(named[n]) not in loaded]


def _rows_of(inputs: Mapping[str, Any], rows_M: Tensor) -> dict[str, Any]:
    return {n: value[rows_M] if torch.is_tensor(value) else value for n, value in inputs.items()}
