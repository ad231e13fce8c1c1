"""From episodes and plans to token ids: x, a and y are tokenized once each and joined as ids."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from envs.prompts import PLAN_SLOT, Prompts, gold_text
from envs.tokens import chat_text
from envs.types import Conversation, Episode
from rewards.types import ScoreRequest, TokenIds
from rewards.window import GivesWay, Window

CUTTABLE = ("context", "plan", "gold")


@dataclass(frozen=True)
class _Encoded:
    """An episode's ids before the plan, after it, and of y; and what of it was cut."""

    episode: Episode
    prefix_ids: TokenIds
    closing_ids: TokenIds
    gold_ids: TokenIds
    cut: frozenset[str]


class GeneratorEncoder:
    """Lays an episode out for the generator as `[all before the plan] [plan, end of prompt] [y]`.

    An empty plan leaves out the plan section and nothing else. Contexts longer than
    `max_context_tokens` lose their beginning, chapters longer than `max_gold_tokens` their end, and
    plans longer than `max_plan_tokens` their end. What then is more than the generator's `window`
    (None: it reads any number of tokens) is taken from the part that `gives_way`. `cut` tells which
    of them lost something.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        max_context_tokens: int | None = None,
        max_plan_tokens: int | None = None,
        max_gold_tokens: int | None = None,
        window: int | None = None,
        gives_way: GivesWay = "plan",
    ) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.max_context_tokens = max_context_tokens
        self.max_plan_tokens = max_plan_tokens
        self.max_gold_tokens = max_gold_tokens
        self.window = Window(window, gives_way, max_plan_tokens)
        self._episodes: dict[str, _Encoded] = {}

    def request(self, episode: Episode, plan: str = "") -> ScoreRequest:
        encoded = self._encode_episode(episode)
        guidance = self._fitting_plan(encoded, self._plan_ids(plan)) + encoded.closing_ids
        return ScoreRequest(episode.episode_id, encoded.prefix_ids, guidance, encoded.gold_ids)

    def cut(self, episode: Episode, plan: str = "") -> frozenset[str]:
        """Which of `CUTTABLE` are too long, so that `request` holds them in part."""
        encoded, plan_ids = self._encode_episode(episode), self._plan_ids(plan)
        is_cut = self._fitting_plan(encoded, plan_ids) != plan_ids
        return encoded.cut | ({"plan"} if is_cut else set())

    def _fitting_plan(self, encoded: _Encoded, plan_ids: TokenIds) -> TokenIds:
        allowed = plan_ids[: self.max_plan_tokens]
        others = len(encoded.prefix_ids) + len(encoded.closing_ids) + len(encoded.gold_ids)
        return allowed[: self.window.room("plan", others)]

    def _encode_episode(self, episode: Episode) -> _Encoded:
        """All of a request that does not depend on the plan; kept per episode."""
        known = self._episodes.get(episode.episode_id)
        if known is None or known.episode is not episode:
            before, after = split_at_plan(
                self.tokenizer, self.prompts.ask_for_chapter(episode.context)
            )
            shown = self.prompts.render(episode.context)
            # What frames the context (a system message, the task) is never cut with it.
            frame, closing = self._ids(before.removesuffix(shown)), self._ids(after)
            whole = {"context": self._ids(shown), "gold": self._ids(gold_text(episode.chapter))}
            fitting = self._fitting(whole["context"], whole["gold"], len(frame) + len(closing))
            known = _Encoded(
                episode,
                frame + fitting["context"],
                closing,
                fitting["gold"],
                frozenset(part for part, ids in whole.items() if fitting[part] != ids),
            )
            self._episodes[episode.episode_id] = known
        return known

    def _fitting(self, context: TokenIds, gold: TokenIds, num_framing: int) -> dict[str, TokenIds]:
        """What of context and chapter the generator sees, whatever the plan is."""
        context, gold = _last(context, self.max_context_tokens), gold[: self.max_gold_tokens]
        return {
            "context": _last(context, self.window.room("context", num_framing + len(gold))),
            "gold": gold[: self.window.room("gold", num_framing + len(context))],
        }

    def _plan_ids(self, plan: str) -> TokenIds:
        return self._ids(self.prompts.plan_section(plan))

    def _ids(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _last(ids: TokenIds, limit: int | None) -> TokenIds:
    return ids if limit is None else ids[max(0, len(ids) - limit) :]


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
