"""Entropy of what a policy writes, in nats per token."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.solo import SoloPlanner
from envs.types import Episode, Reply
from train.monitors.entropy import entropies, mean_answer_entropy


def test_entropies_by_pencil() -> None:
    # Uniform over four; one of two with certainty; 1/2, 1/4, 1/4.
    rows = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, -1e9, -1e9, -1e9]])
    assert entropies(rows).tolist() == pytest.approx([math.log(4), 0.0])
    half = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert entropies(half).tolist() == pytest.approx([1.5 * math.log(2)])


def test_a_model_that_knows_nothing_has_the_entropy_of_its_vocabulary(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    make_episode: Callable[..., Episode],
) -> None:
    model = make_model(tie_word_embeddings=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    episode, env = make_episode(), SoloPlanner()
    replies = [Reply("In summary: Ann pays."), Reply("In summary: Ann", truncated=True), Reply("")]
    rollouts = [env.conclude(episode, reply) for reply in replies]
    model.train()
    entropy = mean_answer_entropy(model, tokenizer, rollouts)
    assert entropy == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)
    assert model.training
