"""Writing a chapter: an env plays one episode, and the generator writes what it is guided to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent, generation_config
from envs.sampling import Sampling
from envs.types import Episode, Rollout
from rewards.improvement import improvement_percent
from rewards.likelihood.model_limits import context_window
from rewards.types import ScoreRequest
from train.frozen import on_device
from train.models import load_model
from train.run import Run, episodes_of
from train.schema import ModelConfig

_SCRATCHPAD_TURN = "### {number}. {role} ({member}, round {round})\n\n{text}\n"


@dataclass(frozen=True)
class Written:
    """What an env made of an episode: the play, the chapter, and what the plan gains on y.

    `improvement` is in per cent.
    """

    rollout: Rollout
    chapter: str
    improvement: float

    def as_markdown(self) -> str:
        """The scratchpad, what it cost, the plan, and the chapter."""
        rollout = self.rollout
        turns = "\n".join(
            _SCRATCHPAD_TURN.format(
                number=number,
                role=turn.role.replace("_", " "),
                member=turn.member,
                round=turn.round,
                text=turn.reply.text.strip() or f"({turn.reply.failure or 'nothing'})",
            )
            for number, turn in enumerate(rollout.turns, start=1)
        )
        costs = [
            f"- {member}: {cost.calls} answers, {cost.read_tokens} tokens read, "
            f"{cost.generated_tokens} generated" + (f", {cost.money:g} paid" if cost.money else "")
            for member, cost in rollout.costs.items()
        ]
        events = [f"- {name}: {count}" for name, count in sorted(rollout.events.items())]
        return "\n".join(
            [
                f"# {rollout.episode.episode_id}\n",
                f"## Scratchpad\n\n{turns}",
                "\n".join(["## Cost\n", *costs, *events, ""]),
                f"## Guidance\n\n{rollout.outcome.plan or '(none)'}\n",
                f"Improvement on the author's chapter: {self.improvement:+.2f} %\n",
                f"## Chapter\n\n{self.chapter}\n",
            ]
        )


def find_episode(episodes: Sequence[Episode], book: str, chapter: int) -> Episode:
    """The episode of a chapter; `book` is the book's id, or a part of it that no other has.

    Raises:
        ValueError: no book, or more than one, is meant, or it has no such chapter.
    """
    ids = list(dict.fromkeys(e.book_id for e in episodes))
    found = [id_ for id_ in ids if id_ == book] or [id_ for id_ in ids if book in id_]
    if len(found) != 1:
        known = ", ".join((found or ids)[:5]) + (", ..." if len(found or ids) > 5 else "")
        problem = "several books are meant" if found else "there is no such book"
        raise ValueError(f"book: {book!r}: {problem}; name one of {known}")
    chapters = {e.episode_id.rsplit("/", 1)[1]: e for e in episodes if e.book_id == found[0]}
    if str(chapter) not in chapters:
        raise ValueError(
            f"chapter: {found[0]} has no chapter {chapter} to write; it has {', '.join(chapters)}"
        )
    return chapters[str(chapter)]


def write_chapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: ScoreRequest,
    sampling: Sampling,
    seed: int,
) -> str:
    """What the generator writes behind the ids that it would be asked for y's likelihood behind.

    It stops at the end of its window, if it has one.
    """
    ids = torch.tensor([request.prefix_ids + request.guidance_ids], device=model.device)
    window = context_window(model.config)
    room = sampling.max_new_tokens if window is None else window - ids.shape[1]
    how = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        # Every causal model can generate, but transformers' type for any model does not say so.
        output = cast(Any, model).generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=generation_config(how, tokenizer),
        )
    return str(tokenizer.decode(output[0, ids.shape[1] :].tolist(), skip_special_tokens=True))


def write(run: Run, policy: ModelConfig | None, book: str, chapter: int, how: Sampling) -> Written:
    """The chapter as the run's env plans it and its generator writes it; without a policy, with
    the agent before reinforcement."""
    episode = find_episode(episodes_of(run.source, "all"), book, chapter)
    model, tokenizer = load_model(policy or run.warm_start, "policy.model")
    agent = TransformersAgent(
        on_device(model), tokenizer, run.config.sampling, seed=run.config.seed
    )
    with run.progress.stage("plan"):
        (rollout,) = run.player.play([episode], agent)
    ((with_plan, baseline),) = run.reward.likelihoods([(episode, rollout.outcome)])
    request = run.reward.encoder.request(episode, rollout.outcome.plan)
    with run.progress.stage("write"):
        text = write_chapter(*run.writer, request, how, run.config.seed)
    return Written(rollout, text, improvement_percent(with_plan, baseline))
