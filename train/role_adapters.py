"""A model with adapters by role: all of them learn, and a folder keeps those of each apart."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from peft import PeftConfig, PeftModel, PeftModelForCausalLM, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from envs.voices import learning_as_before, voices
from train.models import ADAPTER_WEIGHTS, VOICES, voice_folders


class RoleAdapters(PeftModelForCausalLM):
    """A policy with peft adapters for each of several roles, on weights that all of them share."""

    is_plain = False
    """Whether the adapters are off."""

    @classmethod
    def on(cls, policy: PreTrainedModel, how: PeftConfig, roles: Sequence[str]) -> Self:
        """The policy with new adapters for each role, all of which learn."""
        # peft writes the names of the modules that it found into the config that it is given; of
        # the others, which would find the first one's modules as well, it is given those names.
        adapted = cls(policy, copy.deepcopy(how), adapter_name=roles[0])
        for role in roles[1:]:
            adapted.add_adapter(role, copy.deepcopy(adapted.peft_config[roles[0]]))
        adapted.all_learn()
        return adapted

    def all_learn(self) -> None:
        """The adapters of all roles learn, and nothing else does."""
        for name, weight in self.named_parameters():
            weight.requires_grad_("lora_" in name)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """As peft's; afterwards the roles learn that learned before, not the active one alone."""
        was_plain, self.is_plain = self.is_plain, True
        try:
            with learning_as_before(self), super().disable_adapter():
                yield
        finally:
            self.is_plain = was_plain

    def save_pretrained(self, save_directory: str, *args: Any, **how: Any) -> None:
        """The adapters of each role in `roles/<role>/`, in peft's form."""
        super().save_pretrained(str(Path(save_directory) / VOICES), *args, **how)

    def restore(self, folder: Path) -> None:
        """What `save_pretrained` left.

        Raises:
            ValueError: it is of other roles, or of another model.
        """
        found, own = voice_folders(folder), voices(self)
        if set(found) != set(own):
            raise ValueError(
                f"{folder}: holds adapters of the roles {sorted(found)}, and this run trains "
                f"{list(own)}; resume with the env.cast that it was trained with"
            )
        for role, place in found.items():
            if missing := missing_adapters(self, load_file(place / ADAPTER_WEIGHTS), role):
                raise ValueError(
                    f"{place}: holds no adapters of this policy, as {missing[0]} is missing in it; "
                    "resume with the policy settings that it was trained with"
                )


def missing_adapters(
    policy: PeftModel, state: Mapping[str, Tensor], name: str = "default"
) -> list[str]:
    """Loads adapters; which of them were not there."""
    found = set_peft_model_state_dict(policy, dict(state), adapter_name=name)
    return [key for key in found.missing_keys if "lora_" in key and f".{name}." in key]
