"""Where a family begins to compute otherwise, by its config."""

from __future__ import annotations

from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig

from rewards.likelihood.regimes import LengthRegimes, Reach


def test_a_regime_ends_with_the_length_that_bounds_it() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=24, attention_chunk_size=100))
    assert [regimes.of(n) for n in (1, 24, 25, 100, 101)] == [0, 0, 1, 1, 2]


def test_lengths_of_rotary_embeddings_are_found_where_families_keep_them() -> None:
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    yarn = plain | {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 50}
    for config in (
        LlamaConfig(rope_parameters=yarn),
        Gemma3TextConfig(
            rope_parameters={"full_attention": yarn, "sliding_attention": plain},
            sliding_window=50,
        ),
        PretrainedConfig(original_max_position_embeddings=50),
    ):
        assert [LengthRegimes(config).of(n) for n in (50, 51)] == [0, 1]


def test_a_plain_family_has_one_regime() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=None))
    assert {regimes.of(n) for n in (1, 10_000)} == {0}


def test_what_shall_hold_is_tried_at_twice_the_length_within_the_regime_and_the_context() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=50, max_position_embeddings=200))
    assert [regimes.length_to_try(n) for n in (10, 30, 50, 60, 150)] == [20, 50, 50, 120, 200]


def test_a_group_is_tried_with_a_longer_prefix_and_what_is_found_covers_what_is_no_longer() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=50, max_position_embeddings=200))
    tried = regimes.reach_to_try(regimes.reach(60, 70))
    # The prefix twice; 120 + 10 is within twice 70.
    assert tried == Reach((1, 1), 120, 130)
    assert tried.covers(regimes.reach(60, 70))
    assert tried.covers(regimes.reach(100, 130))
    assert not tried.covers(regimes.reach(100, 131))
    assert not tried.covers(regimes.reach(121, 125))
    assert not tried.covers(regimes.reach(40, 70))
    # 20 tokens behind a prefix within the window leave 30 of it, or of the context 180.
    assert regimes.reach_to_try(regimes.reach(28, 48)).prefix_tokens == 30
    assert regimes.reach_to_try(regimes.reach(150, 170)).prefix_tokens == 180


def test_attention_that_begins_to_choose_among_tokens_begins_a_regime() -> None:
    regimes = LengthRegimes(PretrainedConfig(index_topk=128))
    assert [regimes.of(n) for n in (128, 129)] == [0, 1]


def test_items_are_split_by_regime_longest_first() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=24))
    words = ["a" * 20, "b" * 30, "c" * 24]
    assert regimes.split(words, len) == [[words[1]], [words[0], words[2]]]
