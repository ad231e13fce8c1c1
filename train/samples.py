"""From episodes to the supervised samples of the generator, warm start and SFT baseline."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from envs.prompts import Prompts, gold_text
from envs.tokens import chat_text, end_id
from envs.types import Conversation, Episode, StoryContext
from rewards.encode import GeneratorEncoder
from train.supervised import Sample

# A token that stands in more than this share of all plans is wording, not content.
WORDING_SHARE = 0.5

_SENTENCE = re.compile(r"\S[^.!?]*[.!?]")


def writing_samples(
    encoder: GeneratorEncoder,
    pairs: Sequence[tuple[Episode, str]],
    plan_token_weight: float = 1.0,
) -> list[Sample]:
    """The generator's prompt with each plan, as the scorer lays it out, and the gold chapter.

    Gold tokens that the plan foretells weigh `plan_token_weight` in the loss: they are few, and
    learning to take them from the plan is what the generator is for.
    """
    end = end_id(encoder.tokenizer)
    requests = [encoder.request(episode, plan) for episode, plan in pairs]
    with_plan = [set(r.guidance_ids) for r, (_, plan) in zip(requests, pairs, strict=True) if plan]
    counts = Counter(token for ids in with_plan for token in ids)
    wording = {t for t, count in counts.items() if count > WORDING_SHARE * len(with_plan)}
    found = []
    for request in requests:
        foretold = set(request.guidance_ids) - wording
        weights = [plan_token_weight if t in foretold else 1.0 for t in request.gold_ids]
        found.append(
            Sample(
                request.prefix_ids + request.guidance_ids,
                (*request.gold_ids, end),
                (*weights, 1.0),
            )
        )
    return found


def answer_samples(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Conversation, str]]
) -> list[Sample]:
    """Conversations and the answers to learn, as a chat model reads and writes them."""
    prompts = [chat_text(tokenizer, conversation) for conversation, _ in pairs]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([answer for _, answer in pairs], add_special_tokens=False)["input_ids"]
    end = end_id(tokenizer)
    return [
        Sample(tuple(prompt), (*answer, end))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def reading_samples(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    contexts: Sequence[StoryContext],
    headings: Sequence[str],
    num_shown: int | None,
    num_repeated: int | None,
    seed: int,
) -> list[Sample]:
    """The policy's prompt with `num_shown` sentences of each context, to be repeated shuffled.

    Where there are `headings`, only sentences of sections of that name are shown and repeated; a
    context that is not cut keeps its other sections.

    Raises:
        ValueError: no context has a section with one of `headings`.
    """
    rng = random.Random(seed)
    pairs = []
    for context in contexts:
        short, sentences = _some_sentences(context.known_before(), headings, num_shown, rng)
        repeated = rng.sample(sentences, min(len(sentences), num_repeated or len(sentences)))
        pairs.append((prompts.ask_for_plan(short), " ".join(repeated)))
    return answer_samples(tokenizer, pairs)


def _some_sentences(
    context: StoryContext, headings: Sequence[str], num_shown: int | None, rng: random.Random
) -> tuple[StoryContext, list[str]]:
    """The context with `num_shown` of its sentences, in their order, and those sentences."""
    read = [s for s in context.sections if s.heading in headings or not headings]
    if not read:
        known = ", ".join(s.heading for s in context.sections)
        raise ValueError(
            f"generator.reading.headings: {list(headings)} are in no context; {known} are"
        )
    found = [
        (section, sentence) for section in read for sentence in _SENTENCE.findall(section.text)
    ]
    places = sorted(rng.sample(range(len(found)), min(len(found), num_shown or len(found))))
    kept = [found[place] for place in places]
    sentences = [sentence for _, sentence in kept]
    if num_shown is None:
        return context, sentences
    sections = tuple(
        replace(section, text=" ".join(sentence for owner, sentence in kept if owner is section))
        for section in read
    )
    return StoryContext(sections), sentences


def corpus(
    prompts: Prompts, pairs: Sequence[tuple[Episode, str]], answers: Sequence[str]
) -> list[str]:
    """Every kind of text that the models will read or write, for training a tokenizer."""
    texts = [
        "\n\n".join((prompts.render(e.context), prompts.plan_section(plan), gold_text(e.chapter)))
        for e, plan in pairs
    ]
    return [*texts, *answers]
