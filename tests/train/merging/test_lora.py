"""Low-rank factors: what they hold of a writer, and where peft's mixtures of adapters agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from train.merging.lora import extracted, factors_between, linear_weights, with_factors
from train.merging.methods import task_arithmetic
from train.merging.weights import weights_of

MakeModel = Callable[..., PreTrainedModel]
MIX = (0.6, -0.4)


@pytest.fixture
def adapted(make_model: MakeModel) -> PeftModel:
    """A base with two adapters of ranks 3 and 2 and different scales, all factors random."""
    base = make_model()
    model = get_peft_model(
        base, LoraConfig(r=3, lora_alpha=6, target_modules="all-linear"), "north"
    )
    model.add_adapter("south", LoraConfig(r=2, lora_alpha=1, target_modules="all-linear"))
    draw = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=draw) / 10
    return model


def merged_with(adapted: PeftModel, adapter: str) -> PreTrainedModel:
    """The base with one adapter in its weights."""
    own = copy.deepcopy(adapted)
    own.set_adapter(adapter)
    return cast(PreTrainedModel, cast(Any, own).merge_and_unload(adapter_names=[adapter]))


def our_mixture(adapted: PeftModel) -> dict[str, Tensor]:
    base = cast(PreTrainedModel, copy.deepcopy(adapted).unload())
    weights, layers = weights_of(base), linear_weights(base)
    members = [
        with_factors(weights, factors_between(weights, weights_of(own), layers, rank))
        for own, rank in ((merged_with(adapted, "north"), 3), (merged_with(adapted, "south"), 2))
    ]
    return {
        name: task_arithmetic(tensor, [own[name] for own in members], MIX).float()
        for name, tensor in weights.items()
    }


def off_by(adapted: PeftModel, how: str, **settings: Any) -> float:
    """How far peft's mixture is from ours, relative to what the mixture changes."""
    mixed = copy.deepcopy(adapted)
    mixed.add_weighted_adapter(
        ["north", "south"], list(MIX), "mix", combination_type=how, **settings
    )  # pyright: ignore[reportCallIssue]
    theirs = weights_of(merged_with(mixed, "mix"))
    base = weights_of(cast(PreTrainedModel, copy.deepcopy(adapted).unload()))
    ours = our_mixture(adapted)
    apart = sum(float((ours[name] - theirs[name]).norm() ** 2) for name in ours)
    change = sum(float((ours[name] - base[name]).norm() ** 2) for name in ours)
    return (apart / change) ** 0.5


def test_the_mixture_of_adapters_is_the_weighted_sum_of_their_changes(adapted: PeftModel) -> None:
    ours = our_mixture(adapted)
    base = weights_of(cast(PreTrainedModel, copy.deepcopy(adapted).unload()))
    layer: Any = adapted.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    changes = [
        layer.scaling[name]
        * (layer.lora_B[name].weight.double() @ layer.lora_A[name].weight.double())
        for name in ("north", "south")
    ]
    name = "model.layers.1.mlp.up_proj.weight"
    expected = base[name].double() + MIX[0] * changes[0] + MIX[1] * changes[1]
    assert torch.allclose(ours[name].double(), expected, rtol=0, atol=1e-7)


def test_pefts_cat_and_full_rank_svd_are_that_sum_too(adapted: PeftModel) -> None:
    assert off_by(adapted, "cat") < 1e-6
    assert off_by(adapted, "svd", svd_rank=5) < 1e-5


def test_pefts_svd_at_a_lower_rank_is_not(adapted: PeftModel) -> None:
    assert off_by(adapted, "svd", svd_rank=3) > 0.05


def test_pefts_linear_mixes_factors_and_not_changes(make_model: MakeModel) -> None:
    """Its (Σ √wᵢ Bᵢ)(Σ √wᵢ Aᵢ) has cross terms, which are as large as the change itself."""
    model = get_peft_model(
        make_model(), LoraConfig(r=2, lora_alpha=2, target_modules="all-linear"), "north"
    )
    model.add_adapter("south", LoraConfig(r=2, lora_alpha=2, target_modules="all-linear"))
    draw = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=draw) / 10
    mixed = copy.deepcopy(model)
    mixed.add_weighted_adapter(["north", "south"], [0.5, 0.5], "mix", combination_type="linear")
    layer: Any = mixed.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    exact = 0.5 * (layer.get_delta_weight("north") + layer.get_delta_weight("south"))
    apart = (layer.get_delta_weight("mix") - exact).norm() / exact.norm()
    assert 0.5 < float(apart.detach()) < 2


def test_factors_of_full_rank_hold_all_and_those_of_rank_one_the_largest_direction() -> None:
    change = torch.diag(torch.tensor([3.0, 1.0]))
    base = torch.ones(2, 2)
    whole = extracted(base, base + change, None)
    assert torch.allclose(whole.delta_OI, change.double(), atol=1e-15)
    first = extracted(base, base + change, 1)
    assert (first.down_RI.shape, first.up_OR.shape) == ((1, 2), (2, 1))
    expected = torch.diag(torch.tensor([3.0, 0.0], dtype=torch.float64))
    assert torch.allclose(first.delta_OI, expected, atol=1e-15)


def test_factors_go_on_linear_layers_and_neither_on_the_head_nor_on_embeddings(
    make_model: MakeModel,
) -> None:
    names = linear_weights(make_model())
    assert len(names) == 2 * 7
    assert all(name.startswith("model.layers.") for name in names)


def test_a_model_without_linear_layers_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no linear layers"):
        linear_weights(make_model("gpt2"))
