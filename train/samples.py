"""From episodes to the supervised samples of the generator, the warm start and the SFT baseline."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from envs.prompts import Prompts, gold_text
from envs.types import Conversation, Episode
from rewards.encode import GeneratorEncoder
from train.supervised import Sample


def writing_samples(
    encoder: GeneratorEncoder, pairs: Sequence[tuple[Episode, str]]
) -> list[Sample]:
    """The generator's prompt with each plan, as the scorer lays it out, and the gold chapter."""
    end = (encoder.tokenizer.eos_token_id,)
    requests = [encoder.request(episode, plan) for episode, plan in pairs]
    return [Sample(r.prefix_ids + r.guidance_ids, r.gold_ids + end) for r in requests]


def answer_samples(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Conversation, str]]
) -> list[Sample]:
    """Conversations and the answers to learn, as a chat model reads and writes them."""
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in conversation],
            tokenize=False,
            add_generation_prompt=True,
        )
        for conversation, _ in pairs
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([answer for _, answer in pairs], add_special_tokens=False)["input_ids"]
    end = (tokenizer.eos_token_id,)
    return [
        Sample(tuple(prompt), (*answer, *end))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def corpus(
    prompts: Prompts, pairs: Sequence[tuple[Episode, str]], answers: Sequence[str]
) -> list[str]:
    """Every kind of text that the models will read or write, for training a tokenizer."""
    texts = [
        "\n\n".join((prompts.render(e.context), prompts.plan_section(plan), gold_text(e.chapter)))
        for e, plan in pairs
    ]
    return [*texts, *answers]
