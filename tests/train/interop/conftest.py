"""Books of the story world and a tiny random generator, as settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.models import save_model


@pytest.fixture(scope="session")
def generator_folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    save_model(make_model("llama", seed=3, max_position_embeddings=2048), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def overrides(tmp_path_factory: pytest.TempPathFactory, generator_folder: Path) -> tuple[str, ...]:
    """Settings of `nextchapter train` with few books and that generator."""
    return (
        *(f"generator.model.path={generator_folder}", "generator.training=[]"),
        *("generator.reading=[]", "warm_start=null", "sft_baseline=null", "monitors=off"),
        *("data.train_books=1", "data.demonstration_books=1", "data.validation_books=1"),
        *("data.test_books=2", "prompts.plan_pattern=null"),
        *("sampling.max_new_tokens=8", "sampling.temperature=0.0"),
        f"cache_dir={tmp_path_factory.mktemp('cache')}",
    )
