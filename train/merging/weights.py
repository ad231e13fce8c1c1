"""The weights of a model as named tensors, and whether those of several may be merged."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

Weights = Mapping[str, Tensor]

# Fields of a config that say where a model is from and how it is run, and not what it computes.
_INCIDENTAL = {
    *("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype"),
    *("torch_dtype", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id", "id2label"),
    *("label2id", "initializer_range", "output_attentions", "output_hidden_states"),
    *("_attn_implementation", "_attn_implementation_internal", "return_dict"),
}


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """All tensors that are saved with the model; tied ones once, under their first name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor.detach()))
    return dict(found.values())


@torch.no_grad()
def put_weights(model: PreTrainedModel, weights: Weights) -> PreTrainedModel:
    """The same model with these weights in the place of its own."""
    for name, tensor in weights_of(model).items():
        tensor.copy_(weights[name])
    return model


def check_mergeable(models: Mapping[str, PreTrainedModel]) -> None:
    """Refuses models whose weights do not mean the same thing at the same place.

    Raises:
        ValueError: they differ in class, in a config field that shapes what is computed, in the
            names or shapes of their weights, or one of them is quantized or spread over devices.
    """
    for name, model in models.items():
        if getattr(model, "is_quantized", False) or any(
            isinstance(p, DTensor) for p in model.parameters()
        ):
            raise ValueError(
                f"env.writers: {name!r} is quantized or spread over ranks, and its weights cannot "
                "be merged; load it whole"
            )
    for (name, model), (other, another) in pairwise(models.items()):
        if difference := _difference(model, another):
            raise ValueError(
                f"env.writers: {name!r} and {other!r} cannot be merged: {difference}; merge models "
                "of one architecture, or let them collaborate by routing or by text"
            )


def _difference(model: PreTrainedModel, other: PreTrainedModel) -> str:
    """The first thing in which two models differ so that they cannot be merged; empty for none."""
    if type(model) is not type(other):
        return f"one is a {type(model).__name__}, the other a {type(other).__name__}"
    fields, others = _fields(model), _fields(other)
    for key in sorted(fields.keys() | others.keys()):
        if fields.get(key) != others.get(key):
            return f"{key} is {fields.get(key)} for one and {others.get(key)} for the other"
    weights, theirs = weights_of(model), weights_of(other)
    for name in sorted(weights.keys() ^ theirs.keys()):
        return f"only one of them has the weight {name}"
    for name, tensor in weights.items():
        if tensor.shape != theirs[name].shape:
            return f"{name} is {list(tensor.shape)} for one and {list(theirs[name].shape)}" + (
                " for the other"
            )
    return ""


def _fields(model: PreTrainedModel) -> dict[str, object]:
    """What a model's config says of what it computes; dropout is for training."""
    return {
        key: value
        for key, value in model.config.to_dict().items()
        if key not in _INCIDENTAL and not key.endswith(("dropout", "pdrop"))
    }
