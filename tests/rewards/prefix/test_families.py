"""Sharing a prefix is exact for every decoder family, by the path that fits the family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference, rms_difference
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.types import ScoreRequest

MakeModel = Callable[..., PreTrainedModel]
MakeRequest = Callable[..., ScoreRequest]

# Nats per token, in fp32. Measured: at most 9.2e-5 (falcon_h1), and 6e-6 without linear attention.
TOLERANCE = 1e-4

MERGED, EXPANDED, DENSE = "merged attention", "expanded cache", None
PATHS = {
    "llama": MERGED,
    "qwen2": MERGED,
    "qwen3": MERGED,
    "qwen3_moe": MERGED,
    "gpt2": MERGED,
    "gpt_neox": MERGED,
    "phi3": MERGED,
    "olmo2": MERGED,
    "granite": MERGED,
    "mistral": EXPANDED,
    "gemma2": EXPANDED,
    "gemma3_text": EXPANDED,
    "cohere2": EXPANDED,
    "gpt_oss": EXPANDED,
    "llama4_text": EXPANDED,
    "bloom": EXPANDED,
    "lfm2": EXPANDED,
    "qwen3_next": EXPANDED,
    "falcon_h1": EXPANDED,
    # transformers forgets Jamba's recurrent state when more than one token follows it.
    "jamba": DENSE,
}


@pytest.fixture(scope="session")
def group(make_request: MakeRequest) -> list[ScoreRequest]:
    """Two episodes with prefixes longer than any window; plans of all lengths, and none."""
    shapes = [(0, 20), (3, 20), (17, 20), (40, 20), (9, 55), (0, 1)]
    first = [make_request(140, *shape, seed=i) for i, shape in enumerate(shapes)]
    second = [make_request(150, *shape, seed=i, episode=1) for i, shape in enumerate(shapes[:3])]
    return first + second


@pytest.mark.parametrize("family", PATHS)
def test_a_shared_prefix_changes_no_score_in_fp32(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family(family)
    scorer = SharedPrefixScorer(model, max_tokens_per_batch=400)
    found = scorer.score(group)
    assert largest_difference(found, DenseScorer(model).score(group)) <= TOLERANCE
    assert [path and path.name for path in scorer.paths.values()] == [PATHS[family]]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3_text", "lfm2"])
def test_in_bfloat16_sharing_is_off_by_no_more_than_the_dense_scorer_itself(
    make_family: MakeModel, group: list[ScoreRequest], family: str
) -> None:
    model = make_family(family)
    exact = DenseScorer(model).score(group)
    model = model.to(torch.bfloat16)
    scorer = SharedPrefixScorer(model)
    dense_error = rms_difference(DenseScorer(model).score(group), exact)
    # Measured, in nats a token: 0.02 for llama, dense and shared; random weights this large make
    # much of a rounding.
    assert rms_difference(scorer.score(group), exact) <= 1.25 * dense_error
    assert [path and path.name for path in scorer.paths.values()] == [PATHS[family]]


def test_a_lost_state_is_seen_through_the_rounding_of_bfloat16(
    make_family: MakeModel, group: list[ScoreRequest]
) -> None:
    model = make_family("jamba").to(torch.bfloat16)
    scorer = SharedPrefixScorer(model)
    scorer.score(group)
    assert list(scorer.paths.values()) == [DENSE]


def test_below_the_window_and_beyond_it_a_path_is_tried_anew(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    scorer = SharedPrefixScorer(make_family("mistral", sliding_window=200))
    dense = DenseScorer(scorer.model)
    tried = []
    # The window lies behind the whole group, in its suffixes, in its prefix.
    for prefix in (140, 190, 210):
        group = [make_request(prefix, i, 30, seed=i) for i in range(4)]
        assert largest_difference(scorer.score(group), dense.score(group)) <= TOLERANCE
        tried.append([reach.regimes for reach in scorer.paths])
    assert tried[-1] == [(0, 0), (0, 1), (1, 1)]
    assert [len(regimes) for regimes in tried] == [1, 2, 3]


def test_where_a_rotary_embedding_changes_with_the_length_sharing_gives_way(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    """Phi-3's long contexts turn all positions by other frequencies, those of the prefix too."""
    longrope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [1.0, 2.0, 4.0, 8.0],
        "original_max_position_embeddings": 200,
    }
    model = make_family("phi3", rope_parameters=longrope, original_max_position_embeddings=200)
    scorer, dense = SharedPrefixScorer(model), DenseScorer(model)
    for prefix in (140, 180, 220):
        group = [make_request(prefix, i, n, seed=i) for i, n in enumerate((1, 30, 31, 32))]
        assert largest_difference(scorer.score(group), dense.score(group)) <= TOLERANCE
    chosen = {reach.regimes: path and path.name for reach, path in scorer.paths.items()}
    assert chosen == {(0, 0): MERGED, (0, 1): DENSE, (1, 1): MERGED}
    # Dense rows of both kinds in one batch, where padding makes the short one long.
    short, long = make_request(140, 1, 5), make_request(180, 1, 40)
    alone = [dense.score([asked])[0] for asked in (short, long)]
    assert largest_difference(dense.score([short, long]), alone) <= TOLERANCE


def test_where_a_family_begins_to_choose_among_tokens_without_a_name_for_it_a_path_is_tried_anew(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    """Doge attends to the 128 tokens that it finds best, and to all where there are no more."""
    scorer = SharedPrefixScorer(make_family("doge"))
    dense = DenseScorer(scorer.model)
    for prefix in (40, 45, 70, 100, 190, 420):
        group = [make_request(prefix, 4 * i, 12, seed=i) for i in range(5)]
        # Merged attention, right up to 128 tokens, was off by up to 2 nats from 190 on.
        assert largest_difference(scorer.score(group), dense.score(group)) <= TOLERANCE
    chosen = [(r.prefix_tokens, path and path.name) for r, path in scorer.paths.items()]
    # Each trial reaches to twice the length that asked for it.
    assert chosen == [(80, MERGED), (200, DENSE), (840, DENSE)]


def test_no_path_is_chosen_on_prefixes_so_short_that_it_soon_goes_wrong(
    make_family: MakeModel, make_request: MakeRequest
) -> None:
    scorer = SharedPrefixScorer(make_family("doge"))
    dense = DenseScorer(scorer.model)
    for prefix in (70, 139):
        group = [make_request(prefix, 4 * i, 12, seed=i) for i in range(5)]
        assert largest_difference(scorer.score(group), dense.score(group)) <= TOLERANCE
    assert len(scorer.paths) == 1
