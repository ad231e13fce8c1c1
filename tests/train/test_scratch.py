"""A tokenizer that loses nothing and a chat template that keeps turns apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.tokens import chat_text
from envs.types import Message
from train.scratch import END, PAD, ROLES, train_tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "Ann owes Bob a ring.",
        "  two  spaces ,\n\n\ttabs\r\n and ends \n",
        "— “Привет,” said 李雷; naïve café œuvre, e\u0301 and é",
        "🐈‍⬛ \U0001f469\u200d\U0001f680 \x00\x7f \ufeff \u2028",
        " .!?,'s n't 've can't do n't",
        "",
    ],
)
def test_every_text_round_trips(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_every_character_of_the_basic_plane_round_trips(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    text = "".join(chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_conversation_opens_each_turn_with_its_role_and_closes_the_assistants(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    turns = (Message("system", "A"), Message("user", "B"), Message("assistant", "C"))
    assert chat_text(tokenizer, turns) == ("<|system|>A<|user|>B<|assistant|>C<|end|><|assistant|>")


def test_roles_and_ends_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("".join((PAD, END, *ROLES)), add_special_tokens=False)["input_ids"]
    assert ids == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_the_tokenizer_has_the_size_that_was_asked_for() -> None:
    texts = [f"Chapter {i} of a long book." for i in range(300)]
    assert len(train_tokenizer(texts, 320)) == 320


def test_a_random_model_follows_from_its_seed_and_not_from_the_global_state(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    state = torch.get_rng_state()
    first, same, other = make_model(seed=1), make_model(seed=1), make_model(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [m.get_input_embeddings().weight for m in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape[0] == len(tokenizer)
