"""What a machine is measured with: a model's size and the lengths that fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from train.bench.ratios import Target
from train.bench.workload import Shape
from train.config.hints import did_you_mean


@dataclass(frozen=True)
class CallShape:
    """How the floor feeds the model: so many rows of so many tokens in one call."""

    rows: int
    row_tokens: int

    @property
    def num_tokens(self) -> int:
        return self.rows * self.row_tokens


@dataclass(frozen=True)
class Scale:
    """One size of the benchmark."""

    name: str
    architecture: Mapping[str, Any]
    """`model_type` and the fields of its transformers config; the weights are random."""
    dtype: torch.dtype
    device: str
    shapes: tuple[Shape, ...]
    call_shapes: tuple[CallShape, ...]
    """Among which the floor looks for the fastest."""
    head_chunks: tuple[int, ...]
    """Positions of one projection to the vocabulary, among which the floor looks as well."""
    matmul_size: int
    """Side of the square matrices by which the device's rate is measured."""
    tolerance_nats: float
    """How far apart contenders may be on a token: rounding alone, in this dtype."""
    repeats: int = 3
    rows_per_batch: int = 8
    """Of the contenders that pad: a usual size of a trainer's batches."""
    targets: Mapping[tuple[str, str], Target] = field(default_factory=dict)
    """What ratios have to be, by the names of shape and ratio."""

    def make_model(self) -> PreTrainedModel:
        config = AutoConfig.for_model(**self.architecture)
        with torch.random.fork_rng(), torch.device(self.device):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        return model.eval().requires_grad_(False)


QUICK = Scale(
    name="quick",
    architecture={
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4_096,
        "max_position_embeddings": 4_096,
        # Of a model so narrow, smaller weights would make every token about as likely as any.
        "initializer_range": 0.1,
    },
    dtype=torch.float32,
    device="cpu",
    shapes=(Shape("g8", 2, 8, 140, 20, 50), Shape("g16", 1, 16, 140, 20, 50)),
    call_shapes=(CallShape(4, 128), CallShape(8, 128)),
    head_chunks=(256,),
    matmul_size=512,
    tolerance_nats=1e-3,
)

CPU = Scale(
    name="0.5B",
    # The sizes of Qwen2.5-0.5B.
    architecture={
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4_864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32_768,
    },
    dtype=torch.float32,
    device="cpu",
    # About 7 minutes for each repeat of both on two cores.
    shapes=(Shape("g8", 1, 8, 280, 40, 100), Shape("g16", 1, 16, 280, 40, 100)),
    call_shapes=(CallShape(4, 128), CallShape(16, 128), CallShape(1, 512), CallShape(4, 512)),
    head_chunks=(256, 1_024),
    matmul_size=4_096,
    tolerance_nats=1e-3,
    # On two cores.
    targets={
        ("g16", "one_at_a_time/ours_cold"): Target(at_least=2.8),
        ("g16", "best_padded/ours_cold"): Target(at_least=2.2),
        ("g16", "one_at_a_time/ours_cold share_of_flops_ratio"): Target(at_least=0.9),
        ("g16", "best_padded/ours_cold share_of_flops_ratio"): Target(at_least=0.9),
        ("g16", "ours_cold/floor"): Target(at_most=1.25),
        ("g16", "ours_warm/floor_warm"): Target(at_most=1.25),
    },
)

CUDA = Scale(
    name="7B",
    # The sizes of Qwen2.5-7B.
    architecture={
        "model_type": "qwen2",
        "hidden_size": 3_584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
        "max_position_embeddings": 32_768,
    },
    dtype=torch.bfloat16,
    device="cuda",
    shapes=(Shape("g8", 2, 8, 7_000, 1_000, 2_500), Shape("g16", 2, 16, 7_000, 1_000, 2_500)),
    call_shapes=(CallShape(16, 512), CallShape(32, 512), CallShape(4, 2_048), CallShape(16, 2_048)),
    head_chunks=(1_024, 4_096),
    matmul_size=16_384,
    # The largest of some ten thousand differences, each of a few hundredths.
    tolerance_nats=0.25,
    repeats=5,
    targets={("g16", "ours_cold matmul_share"): Target(at_least=0.6)},
)


def choose_scale(
    device: str | None, quick: bool, shapes: Sequence[str] | None, repeats: int | None
) -> Scale:
    """What the command line asks for.

    Raises:
        ValueError: there is no such device or shape.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: torch sees no CUDA device; use --device cpu")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    scale = replace(QUICK, device=device) if quick else {"cpu": CPU, "cuda": CUDA}[device]
    known = {shape.name: shape for shape in scale.shapes}
    for name in shapes or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"--shapes: no shape {name!r}; {hint}choose among {', '.join(known)}")
    chosen = tuple(known[name] for name in dict.fromkeys(shapes or known))
    return replace(scale, shapes=chosen, repeats=repeats or scale.repeats)
