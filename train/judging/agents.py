"""The judge agent that the settings name: a local transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from pydantic import Field

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.tokens import chat_text
from rewards.likelihood.model_limits import context_window
from train.frozen import on_device
from train.judging.comparisons import Comparison
from train.judging.judge import ask_judge, prompts
from train.judging.judgments import Judgment
from train.judging.wording import JudgeWording
from train.models import check_model, load_model
from train.progress import ProgressDisplay
from train.schema import ModelConfig


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, and how it is asked."""

    model: ModelConfig = field(default_factory=ModelConfig)
    name: Annotated[str, Field(min_length=1)] = "judge"
    """The annotator of the judgments that it makes."""
    sampling: Sampling = field(default_factory=partial(Sampling, temperature=0.0))
    batch_size: Annotated[int, Field(gt=0)] = 8
    """Conversations that the judge answers at once."""
    wording: JudgeWording = field(default_factory=JudgeWording)


def judge(
    config: JudgeConfig, comparisons: Sequence[Comparison], seed: int, progress: ProgressDisplay
) -> list[Judgment]:
    """The judgments of the model on all comparisons, in both orders.

    Raises:
        ValueError: there is no such model, or a prompt is too long for it; nothing is cut.
    """
    if config.model.path is None:
        raise ValueError("judge.model.path: names no judge; give a folder or a Hub id")
    check_model(config.model, "judge.model")
    with progress.stage("load the judge"):
        model, tokenizer = load_model(config.model, "judge.model")
    window = context_window(model.config)
    for comparison, conversation in prompts(comparisons, config.wording):
        text = chat_text(tokenizer, conversation)
        num_tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if window is not None and num_tokens + config.sampling.max_new_tokens > window:
            raise ValueError(
                f"judge.model.path: {config.model.path} reads {window} tokens, and item "
                f"{comparison.item} takes {num_tokens} and {config.sampling.max_new_tokens} for "
                "the answer; shorten its context or texts, or lower judge.sampling.max_new_tokens"
            )
    with progress.stage("judge", 2 * len(comparisons)) as advance:
        agent = TransformersAgent(
            on_device(model), tokenizer, config.sampling, config.batch_size, seed, advance
        )
        return ask_judge(agent, comparisons, config.name, config.wording)
