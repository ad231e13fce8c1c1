"""The product of hidden states and a head's weights, in fp32 where those are in less."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# N tokens, H hidden size, V vocabulary.

LOW_PRECISION = (torch.bfloat16, torch.float16)
# Rows of the weights that are widened to fp32 at a time: the head as a whole never is.
VOCABULARY_CHUNK = 4096


def head_product(head: nn.Module, hidden_NH: Tensor) -> Tensor:
    """What the head makes of the states, in fp32: [N, V].

    A plain linear head in lower precision is multiplied here, with fp32 sums and an fp32 result;
    its own forward would round each logit to 8 or 11 bits. Of any other head (quantized, spread
    over ranks, adapted, hooked) it is its own forward's result that is widened.
    """
    if not _is_plain(head):
        return head(hidden_NH).float()
    assert isinstance(head, nn.Linear)
    product_NV = fp32_product(hidden_NH, head.weight)
    return product_NV if head.bias is None else product_NV.add_(head.bias)


def fp32_product(hidden_NH: Tensor, weight_VH: Tensor) -> Tensor:
    """hidden · weightᵀ of two matrices in the same lower precision, exact up to fp32: [N, V]."""
    if hidden_NH.is_cuda:
        return torch.mm(hidden_NH, weight_VH.t(), out_dtype=torch.float32)
    wide_NH = hidden_NH.float()
    product_NV = wide_NH.new_empty(len(hidden_NH), len(weight_VH))
    for first in range(0, len(weight_VH), VOCABULARY_CHUNK):
        rows = slice(first, first + VOCABULARY_CHUNK)
        torch.mm(wide_NH, weight_VH[rows].float().t(), out=product_NV[:, rows])
    return product_NV


def _is_plain(head: nn.Module) -> bool:
    return (
        type(head) is nn.Linear
        and type(head.weight) is nn.Parameter
        and type(head.weight.data) is Tensor
        and head.weight.dtype in LOW_PRECISION
        and not (head._forward_pre_hooks or head._forward_hooks)
        # Offloading puts a forward of its own in the place of the class's.
        and "forward" not in vars(head)
    )
