"""A generator is known by what it computes with, not by where it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from rewards.stores import generator_key as module
from rewards.stores.generator_key import generator_key, weights_digest

MakeModel = Callable[..., PreTrainedModel]


def test_a_copy_in_another_folder_has_the_same_key(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    copy = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert generator_key(copy) == generator_key(model)


def test_one_changed_weight_changes_the_key(make_model: MakeModel) -> None:
    model = make_model()
    before = generator_key(model)
    with torch.no_grad():
        model.get_output_embeddings().weight[3, 4] += 1e-3
    after = generator_key(model)
    assert {name for name in before if before[name] != after[name]} == {"weights"}


def test_two_tensors_that_change_places_change_the_key() -> None:
    one, two = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    assert weights_digest(torch.nn.Sequential(one, two)) != weights_digest(
        torch.nn.Sequential(two, one)
    )


def test_the_dtype_and_what_the_caller_adds_are_part_of_the_key(make_model: MakeModel) -> None:
    key = generator_key(make_model(), tokenizer="t1", template="p1")
    rounded = generator_key(make_model().to(torch.bfloat16), tokenizer="t1", template="p1")
    assert (key["dtype"], rounded["dtype"]) == ("float32", "bfloat16")
    assert key["weights"] != rounded["weights"]
    assert (key["tokenizer"], key["template"]) == ("t1", "p1")


def test_a_field_that_changes_the_result_but_no_weight_changes_the_key(
    make_model: MakeModel,
) -> None:
    plain, scaled = (make_model("granite", logits_scaling=scale) for scale in (1.0, 2.0))
    assert generator_key(plain)["weights"] == generator_key(scaled)["weights"]
    assert generator_key(plain) != generator_key(scaled)


def test_a_weight_larger_than_a_chunk_is_hashed_to_its_end() -> None:
    rows = module.CHUNK_BYTES // 4 + 2
    big = torch.nn.Embedding(rows, 1)
    before = weights_digest(big)
    with torch.no_grad():
        big.weight[-1] += 1
    assert weights_digest(big) != before
