"""A local transformers model that takes part in a collaboration and does not learn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated

from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.tokens import chat_text
from envs.types import Conversation, Env, Reply
from envs.voices import NO_VOICE, voices
from rewards.likelihood.model_limits import context_window
from train.frozen import on_device
from train.models import check_model, load_model, model_digest
from train.schema import ModelConfig


@dataclass(frozen=True)
class LocalMember:
    """Answers with a model of a folder or the Hub, which is loaded when it is first asked."""

    model: ModelConfig
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: Annotated[int, Field(gt=0)] = 64
    """Conversations that it answers at once."""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.model.path is None:
            raise ValueError("model.path: names the member's model; give a folder or a Hub id")
        check_model(self.model, "model")

    @property
    def voices(self) -> tuple[str, ...]:
        """The roles that its model has adapters for."""
        return voices(self._loaded[0])

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return self.reply_as(NO_VOICE, conversations)

    def reply_as(self, voice: str, conversations: Sequence[Conversation]) -> list[Reply]:
        # By what it is asked, not by how often: a run that goes on after a crash asks less often.
        asked = hashlib.sha256(repr(list(conversations)).encode(errors="backslashreplace"))
        seed = self.seed + int.from_bytes(asked.digest()[:4])
        agent = TransformersAgent(*self._loaded, self.sampling, self.batch_size, seed)
        return agent.reply_as(voice, conversations)

    def identity(self) -> Mapping[str, object]:
        """All that its answers depend on beside what it is asked."""
        return {
            "weights": model_digest(self.model),
            "sampling": asdict(self.sampling),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def fits(self, conversation: Conversation) -> bool:
        """Whether the model's window holds the conversation and the longest answer."""
        model, tokenizer = self._loaded
        window = context_window(model.config)
        if window is None:
            return True
        ids = tokenizer(chat_text(tokenizer, conversation), add_special_tokens=False)["input_ids"]
        return len(ids) + self.sampling.max_new_tokens <= window

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = load_model(self.model, "model")
        model.requires_grad_(False)
        return on_device(model), tokenizer


def member_weights(env: Env) -> dict[str, str]:
    """The weights of an env's local members, by name: a path alone does not tell them apart."""
    cast = getattr(env, "cast", None)
    members: Mapping[str, object] = {} if cast is None else cast.members
    return {
        name: model_digest(member.model)
        for name, member in members.items()
        if isinstance(member, LocalMember)
    }
