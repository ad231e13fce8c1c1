"""x, a and y are tokenized once each and joined as ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerBase

from envs.prompts import PLAN_SLOT, Prompts, gold_text
from envs.types import Chapter, Episode, Message
from rewards.encode import CUTTABLE, GeneratorEncoder, split_at_plan
from train.scratch import train_tokenizer

MakeEpisode = Callable[..., Episode]
PLANS = ("", "Ann pays.", "Ann goes to the mill. She pays what she owes, and more.")


def test_with_and_without_a_plan_the_prompt_differs_by_the_plan_section_and_nothing_else(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    without = encoder.request(make_episode())
    section_ids = ids_of(encoder.tokenizer, "\n\n## Plan\nAnn pays.")
    request = encoder.request(make_episode(), "Ann pays.")
    assert request == replace(without, guidance_ids=section_ids + without.guidance_ids)


def test_all_attempts_at_an_episode_share_one_prefix_and_one_chapter(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    requests = [encoder.request(make_episode(), plan) for plan in PLANS]
    assert len({r.prefix_ids for r in requests}) == 1
    assert len({r.gold_ids for r in requests}) == 1
    assert len({r.guidance_ids for r in requests}) == len(PLANS)


def test_all_that_does_not_depend_on_the_plan_comes_before_it(
    tokenizer: PreTrainedTokenizerBase, make_episode: MakeEpisode
) -> None:
    prompts = Prompts(system="You write.", write_task="Write the chapter.")
    request = GeneratorEncoder(tokenizer, prompts).request(make_episode(), "Ann pays.")
    assert tokenizer.decode(request.prefix_ids) == (
        "<|system|>You write.<|user|>Write the chapter.\n\n## So far\nAnn owes Bob a ring."
    )
    # What closes the prompt has to stand behind the plan.
    assert tokenizer.decode(request.guidance_ids) == "\n\n## Plan\nAnn pays.<|assistant|>"
    assert tokenizer.decode(request.gold_ids) == gold_text(make_episode().chapter)


def test_the_ids_of_the_chapter_do_not_depend_on_the_plan_where_text_would_merge(
    make_episode: MakeEpisode,
) -> None:
    merging = train_tokenizer(["owl owl owl owl"], vocab_size=300)
    merging.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    episode = replace(make_episode(), chapter=Chapter("", "wl."))
    encoder = GeneratorEncoder(merging, Prompts())
    request = encoder.request(episode, "The o")
    joined = request.prefix_ids + request.guidance_ids + request.gold_ids
    whole = ids_of(merging, str(merging.decode(joined)))
    # As text, the plan's last letter and the chapter's first ones are one token.
    assert whole[-2:] == ids_of(merging, " owl.")
    assert joined != whole
    assert request.gold_ids == encoder.request(episode).gold_ids == ids_of(merging, "wl.")


def test_limits_cut_the_old_end_of_a_context_and_the_late_end_of_a_plan_and_a_chapter(
    tokenizer: PreTrainedTokenizerBase, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    episode, plan = make_episode(), "Ann pays."
    whole, closing = encoder.request(episode, plan), encoder.request(episode).guidance_ids
    heading = len(ids_of(tokenizer, "\n\n## Plan\n"))
    limited = GeneratorEncoder(tokenizer, Prompts(), 5, heading + 3, 3)
    request = limited.request(episode, plan)
    frame = encoder.tokenizer("<|user|>Write the next chapter.\n\n")["input_ids"]
    assert request.prefix_ids == (*frame, *whole.prefix_ids[-5:])
    # The prompt is closed as ever.
    assert request.guidance_ids == whole.guidance_ids[: heading + 3] + closing
    assert request.gold_ids == whole.gold_ids[:3]


def test_a_plan_of_which_no_word_fits_is_no_plan(
    tokenizer: PreTrainedTokenizerBase, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    episode, plan = make_episode(), "Ann pays."
    to_first_word = len(ids_of(tokenizer, "\n\n## Plan\nAnn"))
    for limit in range(1, to_first_word):
        limited = GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=limit)
        assert limited.request(episode, plan) == encoder.request(episode)
        assert limited.cut(episode, plan) == {"plan"}
    limited = GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=to_first_word)
    assert tokenizer.decode(limited.request(episode, plan).guidance_ids) == (
        "\n\n## Plan\nAnn<|assistant|>"
    )


def test_an_episode_tells_how_many_tokens_of_a_plan_it_has_room_for(
    tokenizer: PreTrainedTokenizerBase, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    episode = make_episode()
    heading = len(ids_of(tokenizer, "\n\n## Plan\n"))
    others = encoder.request(episode).num_tokens

    def room(window: int | None, max_plan_tokens: int | None = None) -> int | None:
        limited = GeneratorEncoder(
            tokenizer, Prompts(), max_plan_tokens=max_plan_tokens, window=window
        )
        return limited.plan_room(episode)

    assert room(None) is None
    assert room(others + heading + 7) == 7
    assert room(others + heading + 7, heading + 5) == room(None, heading + 5) == 5
    assert room(others + heading - 1) == 0


def test_a_chapter_of_which_nothing_fits_is_an_error_that_names_the_episode(
    tokenizer: PreTrainedTokenizerBase, make_episode: MakeEpisode
) -> None:
    tight = GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=20, window=30, gives_way="gold")
    with pytest.raises(ValueError, match=r"episode book/1: nothing of the gold chapter fits"):
        tight.request(make_episode())


@pytest.mark.parametrize(
    "change",
    ["e", "replace('Ann', 'ANN')", "replace('\n', ' ')"],
    ids=["escapes", "shouts", "joins_lines"],
)
def test_a_chat_template_that_alters_the_context_is_refused(
    make_episode: MakeEpisode, change: str
) -> None:
    altering = train_tokenizer(["Ann"], vocab_size=300)
    template = "{% for m in messages %}{{ m['content'] | CHANGE }}{% endfor %}"
    altering.chat_template = template.replace("CHANGE", change)
    episode = make_episode(known="Ann & Bob owe a ring.")
    with pytest.raises(
        ValueError, match=r"episode book/1: the chat template of .* alters the text"
    ):
        GeneratorEncoder(altering, Prompts()).request(episode)


@pytest.mark.parametrize("part", CUTTABLE)
def test_what_does_not_fit_is_named(
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    make_episode: MakeEpisode,
    part: str,
) -> None:
    episode, plan = make_episode(), "Ann pays."
    request = encoder.request(episode, plan)
    frame = encoder.tokenizer("<|user|>Write the next chapter.\n\n")["input_ids"]
    lengths = {
        "context": len(request.prefix_ids) - len(frame),
        "plan": len(encoder.tokenizer("\n\n## Plan\nAnn pays.")["input_ids"]),
        "gold": len(request.gold_ids),
    }
    fitting = {f"max_{name}_tokens": length for name, length in lengths.items()}
    assert GeneratorEncoder(tokenizer, Prompts(), **fitting).cut(episode, plan) == set()
    short = fitting | {f"max_{part}_tokens": lengths[part] - 1}
    assert GeneratorEncoder(tokenizer, Prompts(), **short).cut(episode, plan) == {part}


def test_without_limits_and_without_a_plan_nothing_is_cut(
    tokenizer: PreTrainedTokenizerBase, encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    assert encoder.cut(make_episode(), PLANS[-1]) == set()
    assert GeneratorEncoder(tokenizer, Prompts(), max_plan_tokens=1).cut(make_episode()) == set()


def test_another_episode_under_the_same_id_is_encoded_anew(
    encoder: GeneratorEncoder, make_episode: MakeEpisode
) -> None:
    before = encoder.request(make_episode(known="Ann owes Bob a ring."))
    after = encoder.request(make_episode(known="Bob owes Ann a ring."))
    assert before.prefix_ids != after.prefix_ids


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the tokenizer has no chat template"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "shows it 2 times"),
        ("Hello.", "shows it 0 times"),
    ],
)
def test_a_chat_template_that_cannot_place_the_plan_is_refused(
    template: str | None, message: str
) -> None:
    tokenizer = train_tokenizer(["Ann"], vocab_size=300)
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message):
        split_at_plan(tokenizer, (Message("user", f"Write.{PLAN_SLOT}"),))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
