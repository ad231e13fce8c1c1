"""A local model answers whole batches, each answer as if it were alone, and says if it was cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.tokens import chat_text, end_id, pad_id
from envs.types import Message, Reply
from train.scratch import train_tokenizer

MakeModel = Callable[..., PreTrainedModel]
TALK = [
    (Message("user", "Ann owes Bob."),),
    (Message("system", "You plan."), Message("user", "Bob left the ring at the mill. " * 3)),
    (Message("user", "Who?"), Message("assistant", "Ann."), Message("user", "Where is the ring?")),
]
# Weights large enough that a random model says something else at each step.
VARIED = {"tie_word_embeddings": False, "initializer_range": 0.3}
GREEDY = Sampling(max_new_tokens=8, temperature=0.0)
SAMPLED = Sampling(max_new_tokens=8, temperature=1.0)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", VARIED),
        ("gpt2", {"n_positions": 256}),
        (
            "lfm2",
            {
                "layer_types": ["conv", "full_attention"],
                "conv_L_cache": 3,
                "block_auto_adjust_ff_dim": False,
                **VARIED,
            },
        ),
    ],
)
def test_greedy_answers_do_not_depend_on_the_batch(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, family: str, fields: dict[str, Any]
) -> None:
    model = make_model(family, **fields)
    agent = TransformersAgent(model, tokenizer, GREEDY)
    together = agent.reply(TALK)
    assert together == [agent.reply([conversation])[0] for conversation in TALK]
    assert together == TransformersAgent(model, tokenizer, GREEDY, batch_size=2).reply(TALK)
    assert len({reply.text for reply in together}) > 1


def test_samples_follow_from_the_seed_and_not_from_the_global_state(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = make_model()
    torch.manual_seed(1)
    first = TransformersAgent(model, tokenizer, SAMPLED, seed=3).reply(TALK)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert TransformersAgent(model, tokenizer, SAMPLED, seed=3).reply(TALK) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert TransformersAgent(model, tokenizer, SAMPLED, seed=4).reply(TALK) != first


def test_an_answer_that_the_length_limit_cut_is_marked(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = make_model(**VARIED)
    prompt = tokenizer(chat_text(tokenizer, TALK[0]), return_tensors="pt")
    output = model.generate(**prompt, do_sample=False, max_new_tokens=8)
    said = output[0, prompt["input_ids"].shape[1] :].tolist()
    assert len(said) == 8 and said[5] not in said[:5]
    (cut,) = TransformersAgent(model, tokenizer, GREEDY).reply(TALK[:1])
    assert cut == Reply(str(tokenizer.decode(said)), truncated=True)
    # Make the model's sixth token the one that ends an answer.
    ending = copy.deepcopy(tokenizer)
    ending.eos_token = ending.convert_ids_to_tokens(said[5])
    (whole,) = TransformersAgent(model, ending, GREEDY).reply(TALK[:1])
    assert whole == Reply(str(tokenizer.decode(said[:5])), truncated=False)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_how_a_checkpoint_likes_to_be_sampled_changes_nothing(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling
) -> None:
    plain, opinionated = make_model(**VARIED), make_model(**VARIED)
    opinionated.generation_config.update(
        do_sample=True,
        temperature=0.1,
        top_k=2,
        top_p=0.5,
        repetition_penalty=3.0,
        eos_token_id=list(range(5, 200)),
    )
    replies = [TransformersAgent(m, tokenizer, sampling).reply(TALK) for m in (plain, opinionated)]
    assert replies[0] == replies[1]


def test_a_model_in_training_goes_on_training(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = make_model().train()
    TransformersAgent(model, tokenizer, GREEDY).reply(TALK[:1])
    assert model.training


def test_nobody_to_answer_is_no_answer(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert TransformersAgent(make_model(), tokenizer, GREEDY).reply([]) == []


def test_a_tokenizer_without_padding_fills_with_its_end_and_one_without_end_is_refused() -> None:
    tokenizer = train_tokenizer(["Ann"], vocab_size=300)
    tokenizer.pad_token = None
    assert pad_id(tokenizer) == end_id(tokenizer) == 1
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no eos_token"):
        end_id(tokenizer)


def test_every_batch_that_was_answered_is_told(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    answered: list[int] = []
    agent = TransformersAgent(
        make_model(), tokenizer, GREEDY, batch_size=2, on_answered=answered.append
    )
    agent.reply(TALK)
    assert answered == [2, 1]
