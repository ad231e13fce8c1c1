"""What a model has learned beyond its base, as low-rank factors of its linear layers.

They are cut out of whole weights, so a writer need not have been trained as an adapter. One that
was has a change of the adapter's rank in each layer, which factors of that rank hold whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.merging.weights import Weights

# R rank, I inputs of a layer, O its outputs.


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
            f"env.base: {type(model).__name__} has no linear layers that low-rank factors go on; "
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
    base: Weights, tuned: Weights, names: Sequence[str], rank: int | None
) -> dict[str, Factors]:
    """For each of these weights, what was learned of it."""
    return {name: extracted(base[name], tuned[name], rank) for name in names}


def with_factors(base: Weights, factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The base's weights with those changes; in float64 where changed, so that none is lost."""
    return {
        name: tensor.double() + factors[name].delta_OI if name in factors else tensor
        for name, tensor in base.items()
    }
