"""Where a family begins to compute otherwise, by its config."""

from __future__ import annotations

from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig

from rewards.regimes import LengthRegimes


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


def test_items_are_split_by_regime_longest_first() -> None:
    regimes = LengthRegimes(PretrainedConfig(sliding_window=24))
    words = ["a" * 20, "b" * 30, "c" * 24]
    assert regimes.split(words, len) == [[words[1]], [words[0], words[2]]]
