"""Products of fp32 numbers in fp32, whatever the process around a scorer has switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

# Where torch keeps by which precision fp32 products and convolutions are computed; it does not
# declare these.
_BACKENDS: Any = torch.backends
_PRODUCTS = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
)


@contextmanager
def own_precision(*devices: torch.device) -> Iterator[None]:
    """Within it, models on the devices compute in the precision of their weights.

    Autocast and TF32 make training faster and are often on in the process; a likelihood would be
    off by a tenth of a nat a token under the first, by a thousandth under the second.
    """
    before = [products.fp32_precision for products in _PRODUCTS]
    with ExitStack() as exits:
        for kind in {device.type for device in devices}:
            exits.enter_context(torch.autocast(kind, enabled=False))
        try:
            for products in _PRODUCTS:
                products.fp32_precision = "ieee"
            yield
        finally:
            for products, precision in zip(_PRODUCTS, before, strict=True):
                products.fp32_precision = precision
