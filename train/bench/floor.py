"""The least time in which this model on this device can see so many tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.flops import ModelShape
from rewards.likelihood.logits import body
from train.bench.device import synchronize
from train.bench.scales import CallShape
from train.bench.workload import Workload


class Floor:
    """The body on exactly as many tokens as shared scoring has, the head on the gold positions.

    Tokens go in rows of the shape that is fastest here. Rows know nothing of a prefix, nothing is
    padded, cached or turned into likelihoods, so there is no right result and less attention than
    any scoring needs. `is_warm` leaves out prefixes and baselines.
    """

    def __init__(
        self, model: PreTrainedModel, is_warm: bool, call: CallShape, head_chunk: int
    ) -> None:
        self.name = "floor_warm" if is_warm else "floor"
        self._model = model
        self._is_warm = is_warm
        self._call = call
        self._head_chunk = head_chunk

    def prepare(self, workload: Workload) -> None: ...

    @torch.inference_mode()
    def score(self, workload: Workload) -> None:
        num_tokens, num_gold = self._numbers(workload)
        ids_N = torch.arange(num_tokens, device=self._model.device)
        ids_N %= self._model.config.get_text_config().vocab_size
        rows = [
            states.flatten(0, 1)
            for shape, start in _calls(num_tokens, self._call)
            for states in [_states(self._model, ids_N[start:], shape)]
        ]
        _project(self._model, torch.cat(rows)[:num_gold], self._head_chunk)

    def model_flops(self, workload: Workload) -> int:
        shape = ModelShape.of(self._model)
        num_tokens, num_gold = self._numbers(workload)
        calls = _calls(num_tokens, self._call)
        return sum(c.rows * shape.body_flops(c.row_tokens) for c, _ in calls) + shape.head_flops(
            num_gold
        )

    def _numbers(self, workload: Workload) -> tuple[int, int]:
        """Tokens for the body, positions for the head."""
        scored = workload.attempts if self._is_warm else workload.requests
        num_suffix = sum(len(r.guidance_ids) + len(r.gold_ids) for r in scored)
        num_prefix = 0 if self._is_warm else sum(len(g.prefix_ids) for g in workload.groups)
        return num_prefix + num_suffix, sum(len(r.gold_ids) for r in scored)


def fastest_call(model: PreTrainedModel, candidates: Sequence[CallShape]) -> CallShape:
    """The shape in which the body takes least time for a token."""
    # The first call of a model takes longer than those after it.
    _seconds_per_token(model, candidates[0], candidates[:1])
    return min(candidates, key=lambda call: _seconds_per_token(model, call, candidates))


def fastest_head_chunk(model: PreTrainedModel, candidates: Sequence[int]) -> int:
    """Positions that the head is given at once where it takes least time for each."""
    hidden_NH = torch.zeros(
        max(candidates),
        model.config.get_text_config().hidden_size,
        dtype=model.dtype,
        device=model.device,
    )
    return min(
        candidates,
        key=lambda chunk: _seconds(model, lambda: _project(model, hidden_NH, chunk)),
    )


def _seconds_per_token(
    model: PreTrainedModel, call: CallShape, candidates: Sequence[CallShape]
) -> float:
    # Every shape is tried on the same number of tokens.
    num_calls = max(c.num_tokens for c in candidates) // call.num_tokens
    ids_N = torch.zeros(call.num_tokens, dtype=torch.long, device=model.device)

    def read() -> None:
        for _ in range(num_calls):
            _states(model, ids_N, call)

    return _seconds(model, read) / (num_calls * call.num_tokens)


@torch.inference_mode()
def _seconds(model: PreTrainedModel, work: Callable[[], None]) -> float:
    synchronize(model.device)
    started = time.perf_counter()
    work()
    synchronize(model.device)
    return time.perf_counter() - started


def _calls(num_tokens: int, call: CallShape) -> Iterator[tuple[CallShape, int]]:
    """Shapes and first tokens of the calls; the last ones take what is left, to the token."""
    start = 0
    while start < num_tokens:
        left = num_tokens - start
        rows = min(call.rows, left // call.row_tokens)
        shape = CallShape(rows, call.row_tokens) if rows else CallShape(1, left)
        yield shape, start
        start += shape.num_tokens


def _states(model: PreTrainedModel, ids_N: Tensor, call: CallShape) -> Tensor:
    ids_BT = ids_N[: call.num_tokens].view(call.rows, call.row_tokens)
    return body(model)(input_ids=ids_BT, use_cache=False).last_hidden_state


def _project(model: PreTrainedModel, hidden_NH: Tensor, chunk: int) -> None:
    head = cast(torch.nn.Module, model.get_output_embeddings())
    for hidden in hidden_NH.split(chunk):
        head(hidden)
