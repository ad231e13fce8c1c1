"""A local transformers model that takes part in a collaboration and does not learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from pydantic import Field

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.types import Conversation, Reply
from train.frozen import on_device
from train.models import check_model, load_model
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

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return self._agent.reply(conversations)

    @cached_property
    def _agent(self) -> TransformersAgent:
        model, tokenizer = load_model(self.model, "model")
        model.requires_grad_(False)
        return TransformersAgent(
            on_device(model), tokenizer, self.sampling, self.batch_size, self.seed
        )
