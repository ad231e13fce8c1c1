"""Two vocabularies: one read in the words of the other, with nothing lost and nothing doubled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.sources.storyworld import StoryWorldSource
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.fusion import LinearMixture, ProductOfExperts
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.rounding import largest_difference
from rewards.likelihood.token_map import TokenMap, token_map
from rewards.types import Mixture, ScoreRequest
from train.scratch import random_model, train_tokenizer

# The reference has "b", which the other writes in no way, and "ac", which it writes in two tokens;
# the other has "d", which the reference does not have.
REFERENCE = {"a": 0, "c": 1, "ac": 2, "b": 3}
OWN = {"c": 0, "d": 1, "a": 2}


def test_a_token_is_read_by_its_own_id_or_spelled() -> None:
    found = token_map(REFERENCE, OWN, 4, 3)
    assert found.ids_V.tolist() == [2, 0, -1, -1]
    assert found.spell([2, 0, 1]) == ((2, 0, 2, 0), [0, 2, 3])
    assert found.share_unmapped([2, 0, 1, 1]) == 0.25
    with pytest.raises(ValueError, match="token 3 of the reference cannot be written"):
        found.spell([3])


def test_tokens_that_mean_the_same_under_other_names_are_the_same() -> None:
    found = token_map({"<end>": 0, "a": 1}, {"a": 0, "</s>": 1}, 2, 2, same={"<end>": "</s>"})
    assert found.ids_V.tolist() == [1, 0]


def test_what_neither_can_say_is_exchanged_by_pencil() -> None:
    # The other gives c, d, a 1/2, 3/10, 2/10. Of the tokens that only it has, the reference gives
    # "ac" and "b" 1:3, and so they share what the other gives to "d".
    own = torch.tensor([[0.5, 0.3, 0.2]]).log()
    reference = torch.tensor([[0.5, 0.1, 0.1, 0.3]]).log()
    found = token_map(REFERENCE, OWN, 4, 3).scores(own, reference).exp()[0]
    assert found.tolist() == pytest.approx([0.2, 0.5, 0.3 / 4, 0.9 / 4])


def test_a_token_that_a_smaller_vocabulary_lacks_gets_the_floor() -> None:
    found = token_map({"a": 0, "b": 1}, {"a": 0}, 2, 1).scores(torch.zeros(1, 1), torch.zeros(1, 2))
    assert found[0].tolist() == [0.0, -30.0]


def test_a_generator_with_every_token_of_the_reference_is_normalised_over_them() -> None:
    own = torch.tensor([[0.2, 0.3, 0.5]]).log()
    found = token_map({"a": 0, "b": 1}, {"b": 0, "x": 1, "a": 2}, 2, 3)
    assert found.scores(own, torch.zeros(1, 2)).exp()[0].tolist() == pytest.approx([5 / 7, 2 / 7])


@pytest.fixture(scope="module")
def own_tokenizer(world: StoryWorldSource) -> PreTrainedTokenizerBase:
    """Trained on half of what the reference's was, to another size."""
    texts = [episode.chapter.text for episode in world.episodes("train")]
    return train_tokenizer(texts[: len(texts) // 2], 330)


@pytest.fixture(scope="module")
def between(tokenizer: PreTrainedTokenizerBase, own_tokenizer: PreTrainedTokenizerBase) -> TokenMap:
    vocabularies = (tokenizer.get_vocab(), own_tokenizer.get_vocab())
    return token_map(*vocabularies, len(tokenizer), len(own_tokenizer))


def test_two_trained_tokenizers_share_most_tokens_and_each_can_be_spelled(
    tokenizer: PreTrainedTokenizerBase,
    own_tokenizer: PreTrainedTokenizerBase,
    between: TokenMap,
    world: StoryWorldSource,
) -> None:
    assert 0 < between.share_unmapped(range(len(tokenizer))) < 0.5
    for episode in world.episodes("test"):
        text = episode.chapter.text
        own_ids, starts = between.spell(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert own_tokenizer.decode(list(own_ids)) == text
        assert starts == sorted(set(starts))


def test_the_other_vocabulary_sums_to_one_in_the_references_words(
    tokenizer: PreTrainedTokenizerBase, own_tokenizer: PreTrainedTokenizerBase, between: TokenMap
) -> None:
    generator = torch.Generator().manual_seed(0)
    own = 5 * torch.randn(7, len(own_tokenizer), generator=generator)
    reference = 5 * torch.randn(7, len(tokenizer), generator=generator)
    total = between.scores(own, reference).double().logsumexp(-1)
    assert total.tolist() == pytest.approx([0.0] * 7, abs=1e-6)


@pytest.fixture(scope="module")
def scorer(
    make_model: Callable[..., PreTrainedModel],
    own_tokenizer: PreTrainedTokenizerBase,
    between: TokenMap,
) -> MixtureScorer:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    other = random_model(
        {"model_type": "llama", **small, "num_attention_heads": 4, "initializer_range": 0.2},
        own_tokenizer,
        seed=1,
    )
    models = {"plain": make_model("llama", initializer_range=0.2), "other": other}
    return MixtureScorer(DenseScorer(models["plain"]), models, maps={"other": between})


def test_generators_of_two_vocabularies_score_as_their_full_distributions_say(
    scorer: MixtureScorer,
    tokenizer: PreTrainedTokenizerBase,
    own_tokenizer: PreTrainedTokenizerBase,
    between: TokenMap,
    world: StoryWorldSource,
) -> None:
    text = world.episodes("test")[0].chapter.text
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])[:40]
    plain = ScoreRequest("book/1", ids[:10], (), ids[10:])
    prompt = tuple(own_tokenizer("Ann owes Bob a ring.", add_special_tokens=False)["input_ids"])
    mixture = Mixture(("plain", "other"), LinearMixture((0.5, 0.5)), (None, prompt))
    (found,) = scorer.score([replace(plain, mixture=mixture)])

    own_ids, starts = between.spell(plain.gold_ids)
    assert len(own_ids) > len(plain.gold_ids)
    with torch.inference_mode():
        reference = scorer.models["plain"](input_ids=torch.tensor([ids])).logits[0, 9:-1]
        whole = torch.tensor([prompt + own_ids])
        own = scorer.models["other"](input_ids=whole).logits[0]
    own = own[[len(prompt) + start - 1 for start in starts]]
    halves = reference.softmax(-1) / 2 + between.scores(own, reference).exp() / 2
    expected = -halves[range(30), list(plain.gold_ids)].log()
    assert found.token_nll == pytest.approx(expected.tolist(), abs=1e-4)
    assert math.isfinite(found.nll)


def test_weight_on_the_reference_alone_is_the_reference(
    scorer: MixtureScorer, make_request: Callable[..., ScoreRequest]
) -> None:
    plain = make_request(20, 0, 10)
    mixture = Mixture(("plain", "other"), ProductOfExperts((1.0, 0.0)), (None, (7, 8, 9)))
    found = scorer.score([replace(plain, mixture=mixture)])
    assert largest_difference(found, scorer.alone.score([plain])) <= 1e-5


def test_a_generator_of_another_vocabulary_needs_a_prompt_of_its_own(
    scorer: MixtureScorer, make_request: Callable[..., ScoreRequest]
) -> None:
    mixture = Mixture(("plain", "other"), ProductOfExperts((0.5, 0.5)))
    with pytest.raises(ValueError, match="book/0: other has a vocabulary of its own; give it a"):
        scorer.score([replace(make_request(20, 0, 10), mixture=mixture)])
