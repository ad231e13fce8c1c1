"""Agents that answer conversations: a local transformers model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from envs.sampling import Sampling
from envs.tokens import chat_text, end_id, pad_id
from envs.types import Answer, Conversation, Reply, Usage, giga_operations
from envs.voices import NO_VOICE, speaking, voices

# Prime, so that neighbouring seeds share no stream.
SEED_STRIDE = 1_000_003


class TransformersAgent:
    """Answers with a local model, in batches; sampled answers follow from `seed`, the inputs, and
    how often it was asked before.

    Where the model has adapters by role, `reply_as` speaks with those of one role, and `reply`
    without any. `on_answered` is told after each batch how many conversations were answered.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        batch_size: int = 64,
        seed: int = 0,
        on_answered: Callable[[int], object] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.batch_size = batch_size
        self.seed = seed
        self.on_answered = on_answered
        self._times_asked = 0

    @property
    def voices(self) -> tuple[str, ...]:
        """The roles in which it speaks otherwise."""
        return voices(self.model)

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return self.reply_as(NO_VOICE, conversations)

    def reply_as(self, voice: str, conversations: Sequence[Conversation]) -> list[Reply]:
        with speaking(self.model, voice):
            return [self.read(answer) for answer in self.answer(conversations)]

    def answer(self, conversations: Sequence[Conversation]) -> list[Answer]:
        """The answers as token ids, for a trainer."""
        was_training = self.model.training
        self.model.eval()
        # The rounds of one play draw other numbers, or every later answer would repeat the luck of
        # the first.
        seed = self.seed + SEED_STRIDE * self._times_asked
        self._times_asked += 1
        try:
            # Not inference mode: a model sharded by ZeRO-3 is put together inside, and weights made
            # in inference mode could not learn afterwards.
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                return [
                    answer
                    for start in range(0, len(conversations), self.batch_size)
                    for answer in self._answer_batch(conversations[start : start + self.batch_size])
                ]
        finally:
            self.model.train(was_training)

    def read(self, answer: Answer) -> Reply:
        """The answer as text."""
        finished = answer.ids[-1:] == (end_id(self.tokenizer),)
        ids = list(answer.ids[:-1] if finished else answer.ids)
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        usage = usage_of(answer, self._num_weights)
        return Reply(text, truncated=not finished, usage=usage, answer=answer)

    @cached_property
    def _num_weights(self) -> int:
        return num_weights(self.model)

    def _answer_batch(self, conversations: Sequence[Conversation]) -> list[Answer]:
        texts = [chat_text(self.tokenizer, conversation) for conversation in conversations]
        inputs = self.tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(self.model.device)
        # Every causal model can generate, but transformers' type for any model does not say so.
        output = cast(Any, self.model).generate(
            **inputs, generation_config=generation_config(self.sampling, self.tokenizer)
        )
        prompts, is_shown = inputs["input_ids"], inputs["attention_mask"].bool()
        answers = output[:, prompts.shape[1] :].tolist()
        if self.on_answered is not None:
            self.on_answered(len(conversations))
        return [
            Answer(tuple(prompt[shown].tolist()), self._until_end(ids))
            for prompt, shown, ids in zip(prompts, is_shown, answers, strict=True)
        ]

    def _until_end(self, ids: list[int]) -> tuple[int, ...]:
        end = end_id(self.tokenizer)
        return tuple(ids[: ids.index(end) + 1] if end in ids else ids)


def usage_of(answer: Answer, num_weights: int) -> Usage:
    """What a model of so many weights took for the answer."""
    read, said = len(answer.prompt_ids), len(answer.ids)
    return Usage(read, said, giga_operations=giga_operations(num_weights, read + said))


def num_weights(model: nn.Module) -> int:
    """All of them, wherever they lie: ZeRO leaves a part of each on every process."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


def generation_config(sampling: Sampling, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The sampling in transformers' terms."""
    drawn = (
        {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        if sampling.temperature > 0
        else {}
    )
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=sampling.temperature > 0,
        repetition_penalty=sampling.repetition_penalty,
        pad_token_id=pad_id(tokenizer),
        eos_token_id=end_id(tokenizer),
        **drawn,
    )
