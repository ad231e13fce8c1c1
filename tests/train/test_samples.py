"""What models learn from is laid out exactly as they will meet it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envs.prompts import Prompts
from envs.types import Episode, Message, Section, StoryContext
from rewards.encode import GeneratorEncoder
from train.samples import answer_samples, corpus, reading_samples, writing_samples

END = 1
MakeEpisode = Callable[..., Episode]


def test_a_writing_sample_is_the_request_that_will_be_scored_and_an_end(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    pairs = [(make_episode("book/1"), "Ann pays."), (make_episode("book/2"), "")]
    for sample, pair in zip(writing_samples(encoder, pairs), pairs, strict=True):
        request = encoder.request(*pair)
        assert sample.prompt_ids == request.prefix_ids + request.guidance_ids
        assert sample.target_ids == (*request.gold_ids, END)
        assert set(sample.target_weights) == {1.0}


def test_gold_tokens_that_the_plan_foretells_and_few_plans_hold_weigh_more(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    # Four plans: their wording is in all of them, "mill" in one; no plan is no plan.
    plans = ["Ann goes to the mill.", "Ann goes to.", "Ann goes to.", "Ann goes to.", ""]
    pairs = [(make_episode(f"book/{i}"), plan) for i, plan in enumerate(plans)]
    samples = writing_samples(encoder, pairs, plan_token_weight=5.0)
    assert {weight for sample in samples[1:] for weight in sample.target_weights} == {1.0}
    words = "".join(
        encoder.tokenizer.decode([token])
        for token, weight in zip(samples[0].target_ids, samples[0].target_weights, strict=True)
        if weight == 5.0
    )
    assert "mill" in words
    assert "Ann" not in words


def test_an_answer_is_learned_after_the_prompt_that_the_agent_will_read(
    encoder: GeneratorEncoder,
) -> None:
    tokenizer = encoder.tokenizer
    conversation = (Message("user", "What next?"),)
    (sample,) = answer_samples(tokenizer, [(conversation, "In summary: Ann pays.")])
    assert tokenizer.decode(sample.prompt_ids) == "<|user|>What next?<|assistant|>"
    assert tokenizer.decode(sample.target_ids) == "In summary: Ann pays.<|end|>"


def test_reading_repeats_in_any_order_what_is_left_of_the_context(
    encoder: GeneratorEncoder,
) -> None:
    said = [f"Ann owes Bob {number} rings." for number in range(10)]
    context = StoryContext(
        (
            Section("So far", " ".join(said[:6])),
            Section("Pages before", " ".join(said[6:])),
            Section("What comes", "Bob forgives her.", hindsight=True),
        )
    )
    tokenizer = encoder.tokenizer
    samples = reading_samples(tokenizer, Prompts(), [context] * 20, (), 4, 2, seed=0)
    orders = set()
    for sample in samples:
        prompt, answer = tokenizer.decode(sample.prompt_ids), tokenizer.decode(sample.target_ids)
        shown = [sentence for sentence in said if sentence in prompt]
        repeated = [sentence for sentence in said if sentence in answer]
        assert len(shown) == 4
        assert len(repeated) == 2
        assert set(repeated) <= set(shown)
        assert "## So far\n" in prompt
        assert "forgives" not in prompt + answer
        orders.add(answer.index(repeated[0]) < answer.index(repeated[1]))
    assert orders == {True, False}


@pytest.mark.parametrize("num_shown", [None, 1])
def test_reading_repeats_from_some_sections_alone(
    encoder: GeneratorEncoder, num_shown: int | None
) -> None:
    context = StoryContext(
        (Section("So far", "Ann owes Bob. Bob waits."), Section("Pages before", "It rained."))
    )
    tokenizer, prompts = encoder.tokenizer, Prompts()
    (sample,) = reading_samples(tokenizer, prompts, [context], ["So far"], num_shown, 1, seed=0)
    assert "It rained." not in tokenizer.decode(sample.target_ids)
    # What is not cut stays whole.
    assert ("It rained." in tokenizer.decode(sample.prompt_ids)) == (num_shown is None)
    with pytest.raises(ValueError, match=r"generator.reading.headings: .*Pages before"):
        reading_samples(tokenizer, prompts, [context], ["So fare"], num_shown, 1, seed=0)


def test_reading_may_repeat_a_whole_context(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    context = make_episode().context
    (sample,) = reading_samples(encoder.tokenizer, Prompts(), [context], (), None, None, seed=0)
    answer = encoder.tokenizer.decode(sample.target_ids)
    for section in context.known_before().sections:
        assert all(word in answer for word in section.text.split())


def test_the_tokenizer_sees_every_kind_of_text(make_episode: MakeEpisode) -> None:
    first, answer = corpus(Prompts(), [(make_episode(), "Ann pays.")], ["In summary: no."])
    for part in (
        "## So far\nAnn owes Bob a ring.",
        "## Plan\nAnn pays.",
        "Chapter two\n\nAnn went",
    ):
        assert part in first
    assert answer == "In summary: no."
