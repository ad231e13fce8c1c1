"""Plays collaborations for TRL: the policy answers through TRL's own sampler, turn after turn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from envs.agents import num_weights, usage_of
from envs.collaboration.collaboration import Collaboration
from envs.tokens import chat_text
from envs.types import Answer, Conversation, Episode, Reply
from envs.voices import NO_VOICE, speaking, voices
from rewards.types import Reward
from train.lessons import Lesson, play_lessons
from train.role_marks import marked


class TrlPolicy:
    """The policy as TRL's trainer samples it, so that vLLM and continuous batching work here too.

    At most `batch_size` conversations are answered at once. Where the policy has adapters by role,
    `reply_as` speaks with those of one role, and `reply` without any.
    """

    def __init__(
        self,
        trainer: Any,
        tokenizer: PreTrainedTokenizerBase,
        end_ids: frozenset[int],
        batch_size: int,
    ) -> None:
        self.trainer = trainer
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.batch_size = batch_size

    @property
    def voices(self) -> tuple[str, ...]:
        """The roles in which it speaks otherwise."""
        return voices(self.trainer.model)

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return self.reply_as(NO_VOICE, conversations)

    def reply_as(self, voice: str, conversations: Sequence[Conversation]) -> list[Reply]:
        with speaking(self.trainer.model, voice):
            return [
                reply
                for start in range(0, len(conversations), self.batch_size)
                for reply in self._reply(conversations[start : start + self.batch_size])
            ]

    def _reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        texts = [chat_text(self.tokenizer, conversation) for conversation in conversations]
        prompt_ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        # One answer to each: the last argument is by how many prompts vLLM may take for one.
        answers, logprobs = self.trainer._generate_single_turn(prompt_ids, None, {}, 1)
        return [
            self._read(Answer(tuple(prompt), tuple(ids), tuple(found) if found else None))
            for prompt, ids, found in zip(
                prompt_ids, answers, logprobs or [None] * len(answers), strict=True
            )
        ]

    @cached_property
    def _num_weights(self) -> int:
        return num_weights(self.trainer.model)

    def _read(self, answer: Answer) -> Reply:
        text = str(self.tokenizer.decode(list(answer.ids), skip_special_tokens=True))
        return Reply(
            text,
            truncated=answer.ids[-1] not in self.end_ids,
            usage=usage_of(answer, self._num_weights),
            answer=answer,
        )


class PlaySampler:
    """TRL's `rollout_func` for collaborations: whole groups of plays, a row for each learned turn.

    `group_size` is attempts per episode; TRL's own groups are `env.rows_per_play` times as large.
    `noise` is by how many points improvements are off by rounding. `metrics` tells of the last
    step, for this process.
    """

    def __init__(
        self,
        env: Collaboration,
        reward: Reward,
        episodes: Mapping[str, Episode],
        tokenizer: PreTrainedTokenizerBase,
        end_ids: frozenset[int],
        *,
        group_size: int,
        batch_size: int,
        credit: str,
        seed: int,
        noise: float = 0.0,
    ) -> None:
        self.env = env
        self.reward = reward
        self.episodes = episodes
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.group_size = group_size
        self.batch_size = batch_size
        self.credit = credit
        self.seed = seed
        self.noise = noise
        self.metrics: dict[str, float] = {}

    @property
    def rows_per_play(self) -> int:
        return self.env.rows_per_play

    def __call__(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], trainer: Any
    ) -> dict[str, Any]:
        """What TRL learns from: ids and log-probabilities, and columns for its reward function."""
        rows_per_group = self.group_size * self.rows_per_play
        asked = [self.episodes[prompt[0]["episode_id"]] for prompt in prompts[::rows_per_group]]
        policy = TrlPolicy(trainer, self.tokenizer, self.end_ids, self.batch_size)
        where = (self.seed, trainer.state.global_step, trainer.accelerator.process_index)
        lessons, self.metrics = play_lessons(
            self.env,
            self.reward,
            [episode for episode in asked for _ in range(self.group_size)],
            policy,
            self.credit,
            random.Random("/".join(map(str, where))),
            min(self.end_ids),
            self.noise,
        )
        return {
            "prompt_ids": [_prompt_ids(lesson, policy.voices) for lesson in lessons],
            "completion_ids": [list(lesson.answer.ids) for lesson in lessons],
            "env_mask": [
                [int(lesson.reward is not None)] * len(lesson.answer.ids) for lesson in lessons
            ],
            "logprobs": [list(lesson.answer.logprobs or ()) for lesson in lessons]
            if all(lesson.answer.logprobs for lesson in lessons)
            else None,
            "episode_id": [lesson.rollout.episode.episode_id for lesson in lessons],
            "judged": [(lesson.rollout, lesson.score) for lesson in lessons],
            "turn_credit": [lesson.reward for lesson in lessons]
            if self.credit == "turn"
            else [None] * len(lessons),
        }


def _prompt_ids(lesson: Lesson, voices: Sequence[str]) -> list[int]:
    """What was read, and where roles have adapters of their own, whose are to learn from it."""
    ids = lesson.answer.prompt_ids
    return marked(ids, lesson.role, voices) if voices else list(ids)
