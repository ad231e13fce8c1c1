"""From episodes and plans to token ids: x, a and y are tokenized once each and joined as ids."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from envs.prompts import PLAN_SLOT, Prompts, gold_text
from envs.tokens import chat_text
from envs.types import Conversation, Episode
from rewards.types import ScoreRequest, TokenIds


class GeneratorEncoder:
    """Lays an episode out for the generator as `[all before the plan] [plan, end of prompt] [y]`.

    An empty plan leaves out the plan section and nothing else. Contexts longer than
    `max_context_tokens` lose their beginning, chapters longer than `max_gold_tokens` their end, and
    plans longer than `max_plan_tokens` their end; `num_cut` counts how often each gave way.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        max_context_tokens: int | None = None,
        max_plan_tokens: int | None = None,
        max_gold_tokens: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.max_context_tokens = max_context_tokens
        self.max_plan_tokens = max_plan_tokens
        self.max_gold_tokens = max_gold_tokens
        self.num_cut = {"context": 0, "plan": 0, "gold": 0}
        self._episodes: dict[str, tuple[Episode, TokenIds, TokenIds, TokenIds]] = {}

    def request(self, episode: Episode, plan: str = "") -> ScoreRequest:
        prefix, closing, gold = self._encode_episode(episode)
        guidance = self._ids(self.prompts.plan_section(plan))
        if self.max_plan_tokens is not None and len(guidance) > self.max_plan_tokens:
            self.num_cut["plan"] += 1
            guidance = guidance[: self.max_plan_tokens]
        return ScoreRequest(episode.episode_id, prefix, guidance + closing, gold)

    def _encode_episode(self, episode: Episode) -> tuple[TokenIds, TokenIds, TokenIds]:
        """Ids of what precedes the plan, of what ends the prompt, and of y; kept per episode."""
        known = self._episodes.get(episode.episode_id)
        if known is None or known[0] is not episode:
            before, after = split_at_plan(
                self.tokenizer, self.prompts.ask_for_chapter(episode.context)
            )
            shown = self.prompts.render(episode.context)
            # What frames the context (a system message, the task) is never cut with it.
            frame, context = self._ids(before.removesuffix(shown)), self._ids(shown)
            gold = self._ids(gold_text(episode.chapter))
            if self.max_context_tokens is not None and len(context) > self.max_context_tokens:
                self.num_cut["context"] += 1
                context = context[-self.max_context_tokens :]
            if self.max_gold_tokens is not None and len(gold) > self.max_gold_tokens:
                self.num_cut["gold"] += 1
                gold = gold[: self.max_gold_tokens]
            known = (episode, frame + context, self._ids(after), gold)
            self._episodes[episode.episode_id] = known
        return known[1:]

    def _ids(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def split_at_plan(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation
) -> tuple[str, str]:
    """The rendered prompt before and after the plan slot, the assistant's turn just opened.

    Raises:
        ValueError: the tokenizer has no chat template, or its template loses or repeats the slot.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; set one with "
            "tokenizer.chat_template or use an instruction-tuned model."
        )
    before, *rest = chat_text(tokenizer, conversation).split(PLAN_SLOT)
    if len(rest) != 1:
        raise ValueError(
            f"{tokenizer.name_or_path}: the chat template must show the user message exactly once; "
            f"it shows it {len(rest)} times."
        )
    return before, rest[0]
