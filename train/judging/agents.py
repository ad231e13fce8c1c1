"""The judge agent that the settings name: a local transformers model, or any other agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.tokens import chat_text
from envs.types import Conversation, Reply
from rewards.likelihood.model_limits import context_window
from train.config.build import TARGET, build
from train.frozen import on_device
from train.judging.comparisons import Comparison
from train.judging.judge import ask_judge, prompts
from train.judging.judgments import Judgment
from train.judging.wording import JudgeWording
from train.member_ledgers import accounted, ledgers_of
from train.models import check_model, load_model
from train.preparing.answers import AnswerStore
from train.preparing.desk import Desk, Tally
from train.preparing.identity import identity_of
from train.progress import ProgressDisplay
from train.schema import Component, ModelConfig


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, and how it is asked."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """A model on this machine; empty where `agent` judges."""
    name: Annotated[str, Field(min_length=1)] = "judge"
    """The annotator of the judgments that it makes."""
    sampling: Sampling = field(default_factory=partial(Sampling, temperature=0.0))
    batch_size: Annotated[int, Field(gt=0)] = 8
    """Conversations that the judge answers at once, and answers of `agent` that a kill may lose."""
    wording: JudgeWording = field(default_factory=JudgeWording)
    agent: Component | None = None
    """Any agent instead, such as an endpoint: `agent@judge.agent=endpoint`."""
    cache_dir: str = ".cache/nextchapter"
    """Where the answers of `agent` are kept, so that none is paid for twice."""


def judge(
    config: JudgeConfig,
    comparisons: Sequence[Comparison],
    seed: int,
    progress: ProgressDisplay,
    folder: Path | None = None,
) -> list[Judgment]:
    """The judgments of the model or agent on all comparisons, in both orders.

    What an agent that keeps a ledger was paid is left in `folder`.

    Raises:
        ValueError: there is no such model, or a prompt is too long for it; nothing is cut.
    """
    if config.agent is not None:
        kept = _Kept(config, progress)
        with accounted(folder, ledgers_of({config.name: kept.agent})):
            return ask_judge(kept, comparisons, config.name, config.wording)
    if config.model.path is None:
        raise ValueError(
            "judge.model.path: names no judge; give a folder or a Hub id, or "
            "agent@judge.agent=endpoint"
        )
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


class _Kept:
    """The agent that the settings name; what it answered an earlier judging is not asked again."""

    def __init__(self, config: JudgeConfig, progress: ProgressDisplay) -> None:
        assert config.agent is not None
        if config.model.path is not None:
            raise ValueError("judge.model.path: judge.agent judges already; leave out one of them")
        agent: Any = build(config.agent, "judge.agent")
        if not hasattr(agent, "reply"):
            raise ValueError(
                f"judge.agent._target_: {config.agent[TARGET]} makes no agent; give reply()"
            )
        store = AnswerStore(Path(config.cache_dir) / "answers", identity_of(agent))
        self.agent = agent
        self._desk = Desk(agent.reply, store, Tally(), config.batch_size, progress)

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return self._desk.ask("judge", conversations)
