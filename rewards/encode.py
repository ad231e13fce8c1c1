"""From episodes and plans to token ids: x, a and y are tokenized once each and joined as ids."""

from __future__ import annotations

import itertools
import re
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
    plans that with their heading are longer than `max_plan_tokens`, their end. What then is more
    than the generator's `window` (None: it reads any number of tokens) is taken from the part that
    `gives_way`. A plan of which not one word fits is no plan, and leaves its heading out as well.
    `cut` tells which of them lost something.
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
        """What the generator is asked for the plan, or without one.

        Raises:
            ValueError: the chat template loses, repeats or alters what it is given, or nothing of
                the chapter fits the window.
        """
        encoded = self._encode_episode(episode)
        guidance = self._fitting_plan(encoded, plan) + encoded.closing_ids
        return ScoreRequest(episode.episode_id, encoded.prefix_ids, guidance, encoded.gold_ids)

    def cut(self, episode: Episode, plan: str = "") -> frozenset[str]:
        """Which of `CUTTABLE` are too long, so that `request` holds them in part."""
        encoded = self._encode_episode(episode)
        is_cut = self._fitting_plan(encoded, plan) != self._section_ids(plan)
        return encoded.cut | ({"plan"} if is_cut else set())

    def gold_ends(self, episode: Episode) -> list[int]:
        """The byte of y at which each of its scored tokens ends, by the tokenizer's own account."""
        text = gold_text(episode.chapter)
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        scored = len(self._encode_episode(episode).gold_ids)
        ends = [end for _, end in offsets["offset_mapping"]][:scored]
        bytes_before = [0, *itertools.accumulate(len(char.encode()) for char in text)]
        return [bytes_before[end] for end in ends]

    def plan_room(self, episode: Episode) -> int | None:
        """How many tokens of a plan's own text the episode has room for; None for any number."""
        room = self._section_room(self._encode_episode(episode))
        heading = self.prompts.plan_section("x").removesuffix("x")
        return None if room is None else max(0, room - len(self._ids(heading)))

    def _fitting_plan(self, encoded: _Encoded, plan: str) -> TokenIds:
        """The plan's section as far as there is room; none where no word of the plan would fit."""
        section_ids, room = self._section_ids(plan), self._section_room(encoded)
        if room is None or len(section_ids) <= room:
            return section_ids
        to_first_word = re.match(r"\s*\S+", plan)
        if to_first_word is None or len(self._section_ids(to_first_word[0])) > room:
            return ()
        return section_ids[:room]

    def _section_room(self, encoded: _Encoded) -> int | None:
        """How many tokens the plan's section may have, its heading among them."""
        others = len(encoded.prefix_ids) + len(encoded.closing_ids) + len(encoded.gold_ids)
        rooms = (self.max_plan_tokens, self.window.room("plan", others))
        return min((room for room in rooms if room is not None), default=None)

    def _encode_episode(self, episode: Episode) -> _Encoded:
        """All of a request that does not depend on the plan; kept per episode."""
        known = self._episodes.get(episode.episode_id)
        if known is None or known.episode is not episode:
            before, after = split_at_plan(
                self.tokenizer, self.prompts.ask_for_chapter(episode.context)
            )
            shown = self.prompts.render(episode.context)
            if not before.endswith(shown):
                raise ValueError(
                    f"episode {episode.episode_id}: the chat template of "
                    f"{self.tokenizer.name_or_path} alters the text of the context, which it must "
                    "show as it is; set another with tokenizer.chat_template."
                )
            # What frames the context (a system message, the task) is never cut with it.
            frame, closing = self._ids(before.removesuffix(shown)), self._ids(after)
            whole = {"context": self._ids(shown), "gold": self._ids(gold_text(episode.chapter))}
            fitting = self._fitting(whole["context"], whole["gold"], len(frame) + len(closing))
            if whole["gold"] and not fitting["gold"]:
                raise ValueError(
                    f"episode {episode.episode_id}: nothing of the gold chapter fits the "
                    f"generator's window of {self.window.num_tokens} tokens beside the context and "
                    "the longest plan; lower generator.max_context_tokens or max_plan_tokens."
                )
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

    def _section_ids(self, plan: str) -> TokenIds:
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
