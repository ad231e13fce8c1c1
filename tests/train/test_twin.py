"""Two models on one set of weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from train.twin import twin

MakeModel = Callable[..., PreTrainedModel]


def storages(model: torch.nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in model.parameters()}


def test_a_twin_answers_alike_and_takes_no_memory_of_its_own(make_model: MakeModel) -> None:
    model = make_model("qwen2", tie_word_embeddings=True).eval()
    other = twin(model)
    ids_BT = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        assert torch.equal(model(ids_BT).logits, other(ids_BT).logits)
    assert storages(other) == storages(model)
    assert not set(map(id, other.parameters())) & set(map(id, model.parameters()))
    assert len(list(other.parameters())) == len(list(model.parameters())), "tied weights stay tied"


def test_adapters_on_a_twin_learn_and_merge_without_a_trace_in_the_model(
    make_model: MakeModel,
) -> None:
    model = make_model("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    policy = get_peft_model(
        twin(model), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    learned = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.1)
    ids_BT = torch.arange(12).reshape(2, 6)
    for _ in range(2):
        policy(input_ids=ids_BT, labels=ids_BT).loss.backward()
        optimizer.step()
    merged = policy.merge_and_unload(safe_merge=True)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    changed = [n for n, weight in merged.state_dict().items() if not torch.equal(weight, before[n])]
    assert len(changed) == 2 * 7, "each linear layer of the two decoder layers has adapters"
