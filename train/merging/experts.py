"""Linear layers that mix several low-rank changes, with a gate that looks at each token."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.merging.lora import Factors

# E experts, R rank, I inputs, O outputs of a layer; dots stand for batch and tokens.


class GatedLinear(nn.Module):
    """y = W x + Σₑ gₑ(x) Bₑ Aₑ x, with g = softmax(gate x): only the gate learns.

    Everything is a function of the one token's state, so a cache of earlier tokens stays right.
    Gates begin at equal shares.
    """

    def __init__(self, linear: nn.Linear, experts: Sequence[Factors]) -> None:
        super().__init__()
        weight = linear.weight
        rank = max(len(f.down_RI) for f in experts)
        self.linear = linear
        # Experts of lower rank are filled up with directions that say nothing.
        down_ERI = torch.stack([_filled(f.down_RI, rank) for f in experts])
        up_ERO = torch.stack([_filled(f.up_OR.T, rank) for f in experts])
        self.down_ERI = nn.Parameter(down_ERI.to(weight), requires_grad=False)
        self.up_ERO = nn.Parameter(up_ERO.to(weight), requires_grad=False)
        self.gate = nn.Linear(
            weight.shape[1], len(experts), device=weight.device, dtype=weight.dtype
        )
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        # In fp32, as a router's softmax is a place where bfloat16 tells.
        share = self.gate(x).float().softmax(-1).to(x.dtype)
        low = torch.einsum("...i,eri->...er", x, self.down_ERI) * share[..., None]
        return self.linear(x) + torch.einsum("...er,ero->...o", low, self.up_ERO)


def _filled(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])


def with_experts(
    base: PreTrainedModel, experts: Sequence[Mapping[str, Factors]]
) -> PreTrainedModel:
    """A copy of the base with the experts in its linear layers, frozen but for the gates.

    A layer that an expert has no factors for gets none from it.
    """
    model = copy.deepcopy(base).eval().requires_grad_(False)
    for name in dict.fromkeys(name for expert in experts for name in expert):
        path = name.removesuffix(".weight")
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        nothing = Factors(linear.weight.new_zeros(0, linear.in_features).double(), _no_up(linear))
        own = [expert.get(name, nothing) for expert in experts]
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, GatedLinear(linear, own))
    return model


def _no_up(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features, 0).double()


def gates_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """What learns: the gates' weights and biases, by name."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, GatedLinear)]
    return {
        f"{name}.gate.{part}": parameter
        for name, layer in layers
        for part, parameter in layer.gate.named_parameters()
    }


def factors_in(model: nn.Module) -> dict[str, Tensor]:
    """The frozen experts' tensors, by name."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, GatedLinear)]
    return {
        f"{name}.{part}": getattr(layer, part).detach()
        for name, layer in layers
        for part in ("down_ERI", "up_ERO")
    }
