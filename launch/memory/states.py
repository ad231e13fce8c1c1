"""What a training keeps on each GPU from step to step: weights, gradients, the optimizer's state.

The counts are exact for what DeepSpeed 0.19, torch's DDP and AdamW allocate; a test runs them in
two processes and compares byte by byte. Source of the sharding: Rajbhandari et al. 2020, "ZeRO"
(arXiv 1910.02054).
"""

from __future__ import annotations

from dataclasses import dataclass

from launch.memory.terms import Term, times

FP32 = 4
ADAM = 2 * FP32
"""Bytes of AdamW's first and second moment of one weight."""
# DeepSpeed pads flat buffers so that every process's share starts aligned.
ALIGNMENT = 2
# DeepSpeed's default of `stage3_max_live_parameters`: whole weights that stage 3 keeps at a time.
MOST_LIVE_WEIGHTS = 10**9


@dataclass(frozen=True)
class Training:
    """What is trained and how it is spread.

    `learned` and `frozen` are the elements of each parameter tensor, `learned_bytes` and
    `frozen_bytes` the size of one of their numbers as loaded. DeepSpeed casts all of them to
    bfloat16 if `bf16`; DDP trains what it is given, under autocast if `bf16`.
    """

    learned: tuple[int, ...]
    frozen: tuple[int, ...]
    learned_bytes: int
    frozen_bytes: int
    hidden: int
    bf16: bool
    zero_stage: int
    num_gpus: int
    offload_optimizer: bool = False

    @property
    def cast_bytes(self) -> int:
        """Bytes of a weight as DeepSpeed keeps it."""
        assert self.zero_stage
        return 2 if self.bf16 else FP32

    @property
    def num_weights(self) -> int:
        return sum(self.learned) + sum(self.frozen)

    def share(self, tensors: tuple[int, ...]) -> int:
        """Elements of these tensors that one process keeps, where they are spread."""
        if self.zero_stage == 3:
            # Every tensor is cut into equal parts, the last one padded.
            return sum(-(-size // self.num_gpus) for size in tensors)
        # All tensors one after the other, cut once.
        piece = ALIGNMENT * self.num_gpus
        return -(-sum(tensors) // piece) * ALIGNMENT

    @property
    def persistent(self) -> int:
        """Elements of tensors so small that stage 3 keeps them whole, in equal parts with padding,
        beside each process's part."""
        small = [size for size in (*self.learned, *self.frozen) if size <= 10 * self.hidden]
        return sum(-(-size // self.num_gpus) * self.num_gpus for size in small)


def kept_states(training: Training, name: str) -> list[Term]:
    """The terms of everything that stays from step to step; `name` is what is trained."""
    bucket = [_bucket(training, name)] if training.zero_stage else []
    return [*added_states(training, name), *bucket]


def added_states(training: Training, name: str) -> list[Term]:
    """The same for what learns in a parameter group of its own, beside another in one engine."""
    if training.zero_stage == 0:
        return _replicated(training, name)
    return [*_sharded_weights(training, name), *_sharded_states(training, name)]


def _replicated(training: Training, name: str) -> list[Term]:
    size, learned, frozen = training.learned_bytes, sum(training.learned), sum(training.frozen)
    of_learned = times((size, "B"), (learned, "learned weights"))
    all_weights = of_learned
    if frozen:
        all_weights += " + " + times((training.frozen_bytes, "B"), (frozen, "frozen weights"))
    terms = [
        Term(f"{name}: weights", size * learned + training.frozen_bytes * frozen, all_weights),
        Term(f"{name}: gradients", size * learned, of_learned),
        Term(f"{name}: AdamW", 2 * size * learned, "2 × " + of_learned),
    ]
    if training.num_gpus > 1:
        terms.append(Term(f"{name}: DDP's buckets", size * learned, of_learned))
    return terms


def _sharded_weights(training: Training, name: str) -> list[Term]:
    size = training.cast_bytes
    weights = (*training.learned, *training.frozen)
    if training.zero_stage == 2:
        # The learned ones lie in one flat buffer, which is padded to equal shares.
        count = training.share(training.learned) * training.num_gpus + sum(training.frozen)
        return [Term(f"{name}: weights", size * count, times((size, "B"), (count, "weights")))]
    count = training.share(weights) + training.persistent
    why = f"{size} B × ({_over(training, sum(weights))} + {training.persistent:,} kept whole)"
    return [Term(f"{name}: weights", size * count, why)]


def _sharded_states(training: Training, name: str) -> list[Term]:
    count = training.share(training.learned)
    of_each = _over(training, sum(training.learned))
    terms = [Term(f"{name}: gradients", FP32 * count, f"{FP32} B × {of_each}")]
    if training.offload_optimizer:
        terms.append(Term(f"{name}: fp32 copy and AdamW", 0, "in CPU memory"))
    else:
        terms += [
            Term(f"{name}: fp32 copy", FP32 * count, f"{FP32} B × {of_each}"),
            Term(f"{name}: AdamW", ADAM * count, f"{ADAM} B × {of_each}"),
        ]
    return terms


def _bucket(training: Training, name: str) -> Term:
    """Gradients on their way to the processes that keep them."""
    size = training.cast_bytes * training.hidden**2
    why = times((training.cast_bytes, "B"), (training.hidden, "hidden size squared"))
    return Term(f"{name}: bucket of gradients", size, why)


def _over(training: Training, count: int) -> str:
    return times((count, "weights")) + f" / {training.num_gpus} GPUs"


def whole_weights(training: Training, name: str) -> list[Term]:
    """What generating with stage 3 adds: TRL gathers all weights for it."""
    if training.zero_stage != 3:
        return []
    size = training.cast_bytes
    why = times((size, "B"), (training.num_weights, "weights"))
    return [Term(f"{name}: gathered whole", size * training.num_weights, why)]


def live_weights(training: Training, name: str) -> list[Term]:
    """What a forward or backward pass adds to the kept weights."""
    if training.zero_stage == 3:
        count = min(training.num_weights, MOST_LIVE_WEIGHTS)
        size = training.cast_bytes
        return [Term(f"{name}: gathered at a time", size * count, times((size, "B"), (count, "")))]
    if training.zero_stage == 0 and training.bf16 and training.learned_bytes == FP32:
        learned = sum(training.learned)
        why = times((2, "B"), (learned, "learned weights, cast for the pass"))
        return [Term(f"{name}: bfloat16 copies", 2 * learned, why)]
    return []
