"""What a likelihood depends on besides the token ids: the fingerprint of a loaded generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import transformers
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

# Weights are brought to the CPU and hashed in pieces of this size.
CHUNK_BYTES = 16 * 2**20
# Fields of a model's config that say where it came from, not what it computes.
PROVENANCE = ("_name_or_path", "transformers_version", "use_cache", "architectures")


def generator_key(model: PreTrainedModel, **also: str) -> dict[str, str]:
    """Names the generator by what it computes with, however it was loaded: weights, libraries, kind
    of device. Another of these rounds otherwise.

    The weights are hashed as they lie in memory, so that adapters that were merged, a changed dtype
    or quantised weights give another key, and a copy in another folder gives the same one. `also`
    adds what the model does not know: the hashes of its tokenizer and of the template, the scorer.

    Sharded weights are gathered tensor by tensor, so every rank has to call this.
    """
    config = model.config.to_dict()
    described = {name: value for name, value in config.items() if name not in PROVENANCE}
    text = json.dumps(described, sort_keys=True, default=str)
    return {
        "weights": weights_digest(model),
        "config": hashlib.sha256(text.encode()).hexdigest(),
        "model": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": str(model.config._attn_implementation),
        "device": model.device.type,
        "libraries": f"torch {torch.__version__}, transformers {transformers.__version__}",
        **also,
    }


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256, in hex, over names, dtypes, shapes and bytes of all parameters and saved buffers."""
    whole = hashlib.sha256()
    # One core hashes 1 to 2 GB/s, and hashing releases the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        for name, tensor in sorted(model.state_dict().items()):
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            # Tensor by tensor, so that at most one sharded tensor is gathered at a time.
            for digest in pool.map(_digest, _pieces(tensor)):
                whole.update(digest)
    return whole.hexdigest()


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor's bytes, in pieces of `CHUNK_BYTES`."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    # A quantized weight is a tensor made of others: its integers, their scales.
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _pieces(getattr(tensor, name))
    else:
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        yield from flat.split(CHUNK_BYTES)


def _digest(piece: Tensor) -> bytes:
    return hashlib.sha256(piece.cpu().numpy().data).digest()
