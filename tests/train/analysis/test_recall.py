"""Whether the generator goes on with a book by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.types import Episode
from rewards.encode import GeneratorEncoder
from train.analysis.recall import by_heart, trigram_recall
from train.evaluation.contestants import Planner
from train.journal import Journal
from train.schema import EvaluationConfig


def test_a_model_that_was_taught_one_text_knows_it_by_heart(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    told = tuple(tokenizer("In the old mill Ann counted all that Bob owed her by now")["input_ids"])
    other = tuple(tokenizer("The road to the harbour was long, and nobody had come")["input_ids"])
    model: Any = make_model(tie_word_embeddings=False)
    ids = torch.tensor([told])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    # In one batch, so that the shorter one is padded.
    assert trigram_recall(model, tokenizer, [told, other], 2) == [1.0, 0.0]


def test_chapters_too_short_to_go_on_with_are_left_out(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    short = tuple(tokenizer("Ann went.")["input_ids"])
    assert trigram_recall(make_model(), tokenizer, [short], 2) == [None]


def test_what_was_looked_at_is_not_looked_at_again(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    make_episode: Callable[..., Episode],
    tmp_path: Path,
) -> None:
    episodes = [make_episode("one/1"), make_episode("two/1")]
    config = EvaluationConfig(bootstrap_samples=100)
    generator = Planner("generator", lambda: (make_model(), tokenizer))
    told: list[tuple[int, float | None]] = []

    def did(episodes: int, seconds: float | None) -> None:
        told.append((episodes, seconds))

    found = by_heart(episodes, encoder, generator, Journal(tmp_path, {}), config, did)
    assert found is not None and found.mean == 0.0
    gone = Planner("generator", lambda: pytest.fail("was loaded again"))
    assert by_heart(episodes, encoder, gone, Journal(tmp_path, {}), config, did) == found
    (first, took), again = told
    assert first == 2 and took is not None and again == (2, None)
