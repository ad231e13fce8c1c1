"""What passes through a model take: for backward, for generating, for scoring.

Bytes per token of one decoder layer with a gated MLP, counted from what transformers' Llama and
Qwen2 save for backward. h is the hidden size, f that of the MLP, a the query heads times their
size, n the number of heads, p the bytes of a number (2 or 4). Korthikanti et al. 2022 (arXiv
2205.05198) count the layers of GPT in the same way.

    two norms        8 + 16·h in bfloat16: a scale, the input in fp32, it normed, it with its gain;
                     8 + 24·h in fp32; 8 + 26·h under autocast, where each linear layer casts its
                     own input
    attention        5·p·a + 4·n: queries, keys and values repeated to the query heads, the output
                     before and after its heads are joined, and one fp32 log-sum-exp per head; no
                     scores: kernels for long rows keep none
    MLP              4·p·f: gate, its activation, up, their product

With activation checkpoints only each layer's input is kept, and one layer at a time is done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from launch.memory.shapes import Shape
from launch.memory.terms import Term, times

Precision = Literal["float32", "bfloat16", "autocast"]
"""What passes are in: one type throughout, or bfloat16 products on an fp32 residual stream."""

# TRL's fused head projects so many tokens on so many words of the vocabulary at a time.
HEAD_TOKENS, HEAD_WORDS = 4_096, 32_768
# A bool for each pair of positions, and in each layer the same as an addend in bfloat16.
MASK_BYTES, ADDEND_BYTES = 1, 2


@dataclass(frozen=True)
class Batch:
    """Rows that go through a model together, padded to `num_tokens` each."""

    num_rows: int
    num_tokens: int

    @property
    def positions(self) -> int:
        return self.num_rows * self.num_tokens

    def __str__(self) -> str:
        return f"{self.num_rows} × {self.num_tokens:,} tokens"


def layer_bytes(shape: Shape, precision: Precision) -> int:
    """Kept for backward by one layer, for one token."""
    p = 4 if precision == "float32" else 2
    norms = 8 + {"float32": 24, "bfloat16": 16, "autocast": 26}[precision] * shape.hidden
    attention = 5 * p * shape.query_size + 4 * shape.num_heads
    return norms + attention + 4 * p * shape.intermediate


def residual_bytes(shape: Shape, precision: Precision) -> int:
    """The input of one layer, for one token."""
    return shape.hidden * (2 if precision == "bfloat16" else 4)


def activations(shape: Shape, batch: Batch, precision: Precision, checkpoints: bool) -> list[Term]:
    """Kept between the forward and the backward pass, and added at the height of the latter."""
    in_layer, residual = layer_bytes(shape, precision), residual_bytes(shape, precision)
    kept = residual if checkpoints else in_layer
    what = "layer inputs" if checkpoints else "activations"
    one_layer = 2 * in_layer if checkpoints else in_layer
    of_one = "one layer again and its gradients" if checkpoints else "gradients in one layer"
    return [
        Term(
            what,
            batch.positions * shape.num_layers * kept,
            f"{batch} × {times((shape.num_layers, 'layers'), (kept, 'B'))}",
        ),
        Term(of_one, batch.positions * one_layer, f"{batch} × {times((one_layer, 'B'))}"),
    ]


def fused_head(shape: Shape, batch: Batch, precision: Precision, is_learned: bool) -> Term:
    """From hidden states to log-probabilities as TRL does it: in tiles, never the whole logits.

    Backward adds the gradients of hidden states and, where the head learns, of its weights in fp32.
    """
    p = 4 if precision == "float32" else 2
    tile = min(batch.positions, HEAD_TOKENS) * HEAD_WORDS * p
    states = 4 * shape.hidden * batch.positions
    gradient = 4 * shape.vocab * shape.hidden if is_learned else 0
    why = times((HEAD_TOKENS, "tokens"), (HEAD_WORDS, "words"), (p, "B"))
    why += f" + 4 B × {batch} × hidden" + (" + 4 B × head" if gradient else "")
    return Term("head, in tiles", tile + states + gradient, why)


def whole_answer_logits(
    shape: Shape, num_rows: int, num_answer_tokens: int, precision: Precision
) -> list[Term]:
    """As PPO has them: of the answers alone, with their gradient, and one answer's in fp32.

    That one is there as logits, as log-softmax, and once more with the gradient of each.
    """
    p = 4 if precision == "float32" else 2
    size = 2 * p * num_rows * (num_answer_tokens + 1) * shape.vocab
    one = 16 * num_answer_tokens * shape.vocab
    return [
        Term(
            "logits of the answers",
            size,
            f"{num_rows} × {num_answer_tokens + 1:,} tokens × "
            f"{times((shape.vocab, 'words'), (2 * p, 'B'))}",
        ),
        Term(
            "one answer's in fp32",
            one,
            f"{num_answer_tokens:,} tokens × {times((shape.vocab, 'words'))} × 16 B",
        ),
    ]


def hidden_states(shape: Shape, batch: Batch, precision: Precision) -> Term:
    """Those of all layers, kept beside the activations where a head reads the last ones."""
    residual = residual_bytes(shape, precision)
    why = f"{batch} × {times((shape.num_layers + 1, 'layers'), (residual, 'B'))}"
    return Term("hidden states", batch.positions * (shape.num_layers + 1) * residual, why)


def whole_logits(shape: Shape, batch: Batch, precision: Precision) -> Term:
    """The same in supervised training: logits, their fp32 copy, log-softmax and two gradients."""
    size = (4 if precision == "float32" else 2) * 2 + 3 * 4
    why = f"{batch} × {times((shape.vocab, 'words'), (size, 'B'))}"
    return Term("logits of all positions", batch.positions * shape.vocab * size, why)


def attention_mask(batch: Batch, kernel: str | None, num_layers: int = 1) -> Term:
    """Of padded rows, in so many layers at a time; kernels of the flash family take lengths."""
    if kernel is not None and "flash" in kernel:
        return Term("attention mask", 0, f"none with {kernel}")
    pairs, size = batch.num_rows * batch.num_tokens**2, MASK_BYTES + num_layers * ADDEND_BYTES
    why = f"{batch.num_rows} × {batch.num_tokens:,}² pairs × {size} B"
    return Term("attention mask", size * pairs, why)


def inference_bytes(shape: Shape, p: int) -> int:
    """In a pass without backward, for one token: what is there at the height of one layer."""
    return p * (3 * shape.intermediate + 6 * shape.hidden) + 8 * shape.hidden


def generation(
    shape: Shape, prompts: Batch, num_new_tokens: int, precision: Precision, kernel: str | None
) -> list[Term]:
    """Rows answered together by transformers' `generate`: their cache, and reading the prompts."""
    # Under autocast rotary embeddings are fp32, and so are the keys that they turn.
    key, value = {"float32": (4, 4), "bfloat16": (2, 2), "autocast": (4, 2)}[precision]
    per_token = shape.cache_bytes_per_token(key, value)
    whole = Batch(prompts.num_rows, prompts.num_tokens + num_new_tokens)
    reading = inference_bytes(shape, 4 if precision == "float32" else 2)
    return [
        Term("keys and values", whole.positions * per_token, f"{whole} × {per_token:,} B"),
        Term(
            "a layer's while it grows",
            whole.positions * per_token // shape.num_layers,
            f"keys and values / {shape.num_layers} layers",
        ),
        Term("reading the prompts", prompts.positions * reading, f"{prompts} × {reading:,} B"),
        attention_mask(prompts, kernel),
    ]


def scoring(
    shape: Shape, num_tokens: int, num_context: int, positions_per_chunk: int, p: int
) -> list[Term]:
    """One batch of the frozen generator's forward passes, beside the cache of one context."""
    per_token = inference_bytes(shape, p)
    cache = shape.cache_bytes_per_token(p, p)
    return [
        Term(
            "scoring: one batch", num_tokens * per_token, f"{num_tokens:,} tokens × {per_token:,} B"
        ),
        Term(
            "scoring: keys and values",
            (num_context + num_tokens) * cache,
            f"({num_context:,} + {num_tokens:,}) tokens × {cache:,} B",
        ),
        Term(
            "scoring: a chunk of logits",
            8 * positions_per_chunk * shape.vocab,
            f"{positions_per_chunk} positions × {times((shape.vocab, 'words'))} × 8 B",
        ),
    ]
