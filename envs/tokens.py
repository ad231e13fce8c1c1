"""What the project asks of a tokenizer: its special ids, and a conversation as it renders it."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from envs.types import Conversation


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer."""
    return _single(tokenizer, "eos_token")


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills a batch; its own, or the one that ends an answer."""
    return _single(tokenizer, "pad_token" if tokenizer.pad_token is not None else "eos_token")


def chat_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> str:
    """The conversation under the tokenizer's chat template, the assistant's turn just opened."""
    messages = [{"role": m.role, "content": m.content} for m in conversation]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _single(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    found = getattr(tokenizer, f"{name}_id")
    if not isinstance(found, int):
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no {name}; set tokenizer.{name}"
        )
    return found
