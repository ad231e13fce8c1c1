"""Chapters as lm-evaluation-harness scores them: as texts, which it cuts into tokens itself.

It cuts context and continuation as one text and tells them apart by the length of the context
alone, whose trailing white space it counts to the continuation. So a plan could change which tokens
are scored; every document is checked that it does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from envs.prompts import Prompts, gold_text
from envs.types import Episode
from rewards.encode import split_at_plan
from rewards.likelihood.model_limits import context_window

# Of a model without a chat template. It ends as no plan does, so that the tokens in front of the
# chapter are the same with every plan.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}### Chapter{{ '\n\n' }}"
)


@dataclass(frozen=True)
class Reader:
    """How the model under test reads: its tokenizer, and the most tokens that it takes at once."""

    tokenizer: PreTrainedTokenizerBase
    window: int | None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Reader:
        """From the model's arguments, which the harness adds to the task's metadata.

        Raises:
            ValueError: they name no model of transformers.
        """
        model = metadata.get("pretrained") or metadata.get("model")
        named = metadata.get("tokenizer") or model
        if not named:
            raise ValueError(
                "nextchapter: needs the tokenizer of the model under test; name it in --model_args "
                "as pretrained= or tokenizer="
            )
        revision = str(metadata.get("revision") or "main")
        tokenizer = AutoTokenizer.from_pretrained(str(named), revision=revision)
        window = metadata.get("max_length")
        if window is None and model:
            window = context_window(AutoConfig.from_pretrained(str(model), revision=revision))
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
        return cls(tokenizer, None if window is None else int(window))

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def scored_ids(self, context: str, continuation: str) -> list[int]:
        """The tokens whose likelihoods the harness sums."""
        return self.ids(context + continuation)[len(self.ids(context.rstrip())) :]


def document(episode: Episode, plan: str, prompts: Prompts, reader: Reader) -> dict[str, Any]:
    """The chapter with its context, without the plan and with it, and how many tokens are scored.

    Raises:
        ValueError: the model cannot read all of it, or the plan changes the chapter's tokens.
    """
    before, after = split_at_plan(reader.tokenizer, prompts.ask_for_chapter(episode.context))
    plain, guided = before + after, before + prompts.plan_section(plan) + after
    chapter = gold_text(episode.chapter)
    scored = reader.scored_ids(plain, chapter)
    if reader.scored_ids(guided, chapter) != scored:
        raise ValueError(
            f"episode {episode.episode_id}: with the plan, other tokens of the chapter would be "
            "scored than without it; give the model a chat template that ends with a special token"
        )
    # One to spare, for a token that the harness may put first.
    num_tokens = len(reader.ids(guided + chapter)) + 1
    if reader.window is not None and num_tokens > reader.window:
        raise ValueError(
            f"episode {episode.episode_id}: is {num_tokens} tokens long and the model reads "
            f"{reader.window}, so that the harness would cut the context; take shorter contexts "
            "by settings of the data in `overrides`"
        )
    return {
        "episode_id": episode.episode_id,
        "plan": plan,
        "without_plan": plain,
        "with_plan": guided,
        "chapter": chapter,
        "num_tokens": len(scored),
    }


def plans_of(episodes: Sequence[Episode], plan: str, row: str | None) -> dict[str, str]:
    """A plan for each episode by its id: a reference plan of the books, or those in a JSONL file.

    The file has `episode_id` and `plan`, as `token_gains.jsonl` of an evaluation does; of its rows,
    those of the table's `row`. Episodes without a plan there are not evaluated.

    Raises:
        ValueError, OSError: there is no such plan, no such file, or no plan for any episode.
    """
    if not plan.endswith(".jsonl"):
        if missing := [e for e in episodes if plan not in e.plans]:
            known = ", ".join(missing[0].plans) or "none"
            raise ValueError(
                f"plan: {plan!r} is no reference plan of {missing[0].episode_id} (it has {known}); "
                "name one, or a file.jsonl with episode_id and plan"
            )
        return {e.episode_id: e.plans[plan] for e in episodes}
    # Not `splitlines`, which cuts at separators that JSON may hold within a text.
    text = Path(plan).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    found = [line for line in lines if row is None or line.get("row") == row]
    ids = {e.episode_id for e in episodes}
    given = {line["episode_id"]: line["plan"] for line in found if line["episode_id"] in ids}
    if not given:
        raise ValueError(f"plan: {plan} has no plan for these books; check split and row")
    if len({(line["episode_id"], line["plan"]) for line in found}) > len(
        {line["episode_id"] for line in found}
    ):
        rows = ", ".join(sorted({str(line.get("row")) for line in found}))
        raise ValueError(
            f"plan: {plan} has several plans for a chapter (rows {rows}); name one by `row`"
        )
    return given
