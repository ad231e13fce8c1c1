"""What a model has learned beyond its base, as low-rank factors of its linear layers.

The factors come from an adapter in peft's form, as it is, or are cut out of whole weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.merging.weights import Weights
from train.models import adapter_folder

# R rank, I inputs of a layer, O its outputs.

_NAME = "expert"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Factors:
    """A change of a linear layer's weight, ΔW = up · down, its scale within; float64."""

    down_RI: Tensor
    up_OR: Tensor

    @property
    def delta_OI(self) -> Tensor:
        return self.up_OR @ self.down_RI


def linear_weights(model: PreTrainedModel) -> list[str]:
    """Names of the weights that adapters go on: of linear layers, the output head left out.

    Raises:
        ValueError: there are none, as in families whose layers are of another kind.
    """
    head = model.get_output_embeddings()
    found = [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    if not found:
        raise ValueError(
            f"writers: {type(model).__name__} has no linear layers that low-rank factors go on; "
            "use another method of merging"
        )
    return found


def extracted(base: Tensor, tuned: Tensor, rank: int | None) -> Factors:
    """The best factors of that rank for what is between two weights; None for all of it.

    Exact where the change has no higher rank, up to the rounding of a singular value decomposition.
    """
    up_OK, size_K, down_KI = torch.linalg.svd(tuned.double() - base.double(), full_matrices=False)
    root_K = size_K[:rank].sqrt()
    return Factors(root_K[:, None] * down_KI[:rank], up_OK[:, :rank] * root_K)


def factors_between(
    base: Weights, tuned: Weights, names: list[str], rank: int | None
) -> dict[str, Factors]:
    """For each of these weights, what was learned of it."""
    return {name: extracted(base[name], tuned[name], rank) for name in names}


def factors_of_adapter(base: PreTrainedModel, adapter: str, key: str) -> dict[str, Factors]:
    """The factors of an adapter in peft's form, by the weights of the base that they change.

    Raises:
        ValueError: there is no such adapter, it does not go on this model, or it does more than add
            to the weights of linear layers.
    """
    try:
        # peft puts its layers into the model that it is given.
        adapted = PeftModel.from_pretrained(copy.deepcopy(base), adapter_folder(adapter), _NAME)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{key}: {adapter!r} does not go on the base ({reason})") from error
    config = cast(Any, adapted.peft_config[_NAME])
    if config.peft_type != "LORA" or config.use_dora or config.bias != "none":
        raise ValueError(f"{key}: {adapter!r} is no plain LoRA; merge it into a model of its own")
    found = {
        f"{name.removeprefix(_PREFIX)}.weight": _factors(module)
        for name, module in adapted.named_modules()
        if isinstance(module, LoraLinear)
    }
    learned = [name for name in adapted.state_dict() if f".{_NAME}." in name]
    if len(learned) != 2 * len(found):
        raise ValueError(
            f"{key}: {adapter!r} changes more than linear layers; merge it into a model of its own"
        )
    return found


def _factors(layer: LoraLinear) -> Factors:
    down, up = (cast(nn.Linear, part[_NAME]).weight for part in (layer.lora_A, layer.lora_B))
    return Factors(down.detach().double(), layer.scaling[_NAME] * up.detach().double())


def mixture(factors: list[Factors], weights: list[float]) -> Factors:
    """Factors of Σ wᵢ ΔWᵢ, exactly: their ranks add up, as in peft's `cat`."""
    downs = [weight * f.down_RI for f, weight in zip(factors, weights, strict=True)]
    return Factors(torch.cat(downs), torch.cat([f.up_OR for f in factors], dim=1))


def with_factors(base: Weights, factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The base's weights with those changes; in float64 where changed, so that none is lost."""
    return {
        name: tensor.double() + factors[name].delta_OI if name in factors else tensor
        for name, tensor in base.items()
    }
