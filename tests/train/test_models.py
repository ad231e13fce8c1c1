"""Models come in safetensors with a tokenizer of their own, or are refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.models import check_model, check_tokenizer, load_model, model_digest, save_model
from train.schema import ModelConfig
from train.scratch import train_tokenizer

MakeModel = Callable[..., PreTrainedModel]


@pytest.fixture
def folder(make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    save_model(make_model(), tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_is_loaded_as_it_was(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    check_model(ModelConfig(path=str(folder)), "generator.model")
    model, loaded = load_model(ModelConfig(path=str(folder)), "generator.model")
    assert same_weights(model, make_model())
    assert loaded("Ann owes.")["input_ids"] == tokenizer("Ann owes.")["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template


def test_a_tokenizer_belongs_to_a_random_start_and_has_to_be_there(folder: Path) -> None:
    llama = {"model_type": "llama"}
    check_model(ModelConfig(architecture=llama, tokenizer=str(folder)), "writers.small.model")
    with pytest.raises(ValueError, match=r"small\.model\.tokenizer: no tokenizer at 'nowhere/at"):
        check_model(ModelConfig(architecture=llama, tokenizer="nowhere/at/all"), "small.model")
    with pytest.raises(ValueError, match=r"generator\.model\.tokenizer: .* has its own"):
        check_model(ModelConfig(path=str(folder), tokenizer=str(folder)), "generator.model")


def test_a_model_is_loaded_in_the_precision_that_was_asked_for(folder: Path) -> None:
    model, _ = load_model(ModelConfig(path=str(folder), dtype="bfloat16"), "generator.model")
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("refuse", [check_model, load_model])
def test_a_missing_path_is_refused_in_one_line_that_names_the_key(
    refuse: Callable[..., object], tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"generator\.model\.path: no usable model at") as refusal:
        refuse(ModelConfig(path=missing), "generator.model")
    assert missing in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_pickled_weights_are_refused(folder: Path) -> None:
    model, _ = load_model(ModelConfig(path=str(folder)), "generator.model")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"policy\.model\.path: no usable model .*safetensors"):
        load_model(ModelConfig(path=str(folder)), "policy.model")


def test_neither_a_path_nor_an_architecture_is_no_model() -> None:
    check_model(ModelConfig(architecture={"model_type": "llama"}), "generator.model")
    with pytest.raises(ValueError, match=r"generator\.model: names no model"):
        check_model(ModelConfig(), "generator.model")


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["<|extra|>"])
    check_tokenizer(make_model(), tokenizer, "generator.model")
    with pytest.raises(
        ValueError, match=r"generator\.model: the tokenizer has 401 tokens, the model only 400"
    ):
        check_tokenizer(make_model(), larger, "generator.model")


def test_a_tokenizer_to_which_the_models_end_of_text_is_an_ordinary_token_is_refused(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    ordinary = tokenizer.convert_tokens_to_ids("a")
    model = make_model()
    model.config.eos_token_id = model.generation_config.eos_token_id = ordinary
    with pytest.raises(
        ValueError,
        match=rf"generator\.model: the model's eos token has the id {ordinary}, the tokenizer's 1",
    ):
        check_tokenizer(model, tokenizer, "generator.model")


@pytest.mark.parametrize(
    ("of_config", "of_generation"),
    [
        # A family of several ends, as those of Gemma and Llama 3 once they follow instructions.
        ([1, 3], [1, 3]),
        ("a", ["a", 1]),
        # A chat tokenizer beside the config of the base, whose end is another special token.
        (3, 3),
        # The default of a family with a larger vocabulary.
        (50_256, 50_256),
        (None, None),
    ],
)
def test_a_tokenizer_whose_end_is_one_of_the_models_or_special_to_both_is_accepted(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    of_config: Any,
    of_generation: Any,
) -> None:
    def ids(given: Any) -> Any:
        if isinstance(given, list):
            return [ids(one) for one in given]
        return tokenizer.convert_tokens_to_ids(given) if isinstance(given, str) else given

    model = make_model()
    model.config.eos_token_id = ids(of_config)
    model.generation_config.eos_token_id = ids(of_generation)
    check_tokenizer(model, tokenizer)


def test_a_tokenizer_without_padding_gets_some(make_model: MakeModel) -> None:
    tokenizer = train_tokenizer(["Ann"], vocab_size=300)
    tokenizer.pad_token = None
    check_tokenizer(make_model(), tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token


def test_the_digest_of_a_model_is_that_of_its_content(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, folder: Path, tmp_path: Path
) -> None:
    save_model(make_model(), tokenizer, tmp_path / "same")
    save_model(make_model(seed=1), tokenizer, tmp_path / "other")
    digests = [
        model_digest(ModelConfig(path=str(p)))
        for p in (folder, tmp_path / "same", tmp_path / "other")
    ]
    assert digests[0] == digests[1] != digests[2]


def same_weights(a: PreTrainedModel, b: PreTrainedModel) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)
