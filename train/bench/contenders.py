"""The ways of scoring that are measured: what users do today."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.flops import ModelShape
from rewards.types import Likelihood, ScoreRequest
from train.bench.workload import Workload

# B rows, T tokens of a row, K tokens of a row whose logits are kept, V vocabulary.


class Contender(Protocol):
    """A way of scoring a workload."""

    @property
    def name(self) -> str: ...

    def prepare(self, workload: Workload) -> None:
        """Whatever this way of scoring may take for granted; not timed."""
        ...

    def score(self, workload: Workload) -> list[Likelihood] | None:
        """One likelihood per request; None from a floor, which has no right ones to give."""
        ...

    def model_flops(self, workload: Workload) -> int:
        """Operations that this way of scoring spends in the model."""
        ...


@dataclass(frozen=True)
class OneAtATime:
    """The published way: a sequence per call, fp32 log-probabilities of all its positions."""

    model: PreTrainedModel
    name = "one_at_a_time"

    def prepare(self, workload: Workload) -> None: ...

    @torch.inference_mode()
    def score(self, workload: Workload) -> list[Likelihood]:
        return [self._score_one(request) for request in workload.requests]

    def _score_one(self, request: ScoreRequest) -> Likelihood:
        ids_1T = torch.tensor([request.token_ids], device=self.model.device)
        logits_1TV = self.model(input_ids=ids_1T, use_cache=False).logits
        logprobs_1TV = logits_1TV[:, :-1].float().log_softmax(-1)
        chosen_T = logprobs_1TV.gather(-1, ids_1T[:, 1:, None])[0, :, 0]
        return likelihood(-chosen_T[-len(request.gold_ids) :])

    def model_flops(self, workload: Workload) -> int:
        shape = ModelShape.of(self.model)
        lengths = [request.num_tokens for request in workload.requests]
        return sum(shape.body_flops(n) + shape.head_flops(n) for n in lengths)


@dataclass(frozen=True)
class PaddedBatch:
    """What a user writes in a reward function: right-padded rows, logits of their last tokens."""

    model: PreTrainedModel
    rows_per_batch: int
    name = "padded_batch"

    def prepare(self, workload: Workload) -> None: ...

    @torch.inference_mode()
    def score(self, workload: Workload) -> list[Likelihood]:
        batches = rows_in_order(workload.requests, self.rows_per_batch)
        return [found for batch in batches for found in self._score_batch(batch)]

    def _score_batch(self, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        ids_BT, mask_BT = padded(batch, self.model.device)
        num_kept = _num_kept(batch)
        logits_BKV = self.model(
            input_ids=ids_BT, attention_mask=mask_BT, use_cache=False, logits_to_keep=num_kept
        ).logits
        logprobs_BKV = logits_BKV[:, :-1].float().log_softmax(-1)
        chosen_BK = logprobs_BKV.gather(-1, ids_BT[:, 1 - num_kept :, None])[..., 0]
        first_kept = ids_BT.shape[1] - chosen_BK.shape[1]
        return [
            likelihood(-chosen_K[r.num_tokens - len(r.gold_ids) - first_kept :][: len(r.gold_ids)])
            for r, chosen_K in zip(batch, chosen_BK, strict=True)
        ]

    def model_flops(self, workload: Workload) -> int:
        shape = ModelShape.of(self.model)
        return sum(
            len(batch) * (shape.body_flops(longest(batch)) + shape.head_flops(_num_kept(batch)))
            for batch in rows_in_order(workload.requests, self.rows_per_batch)
        )


def _num_kept(batch: Sequence[ScoreRequest]) -> int:
    """Last positions of the padded rows, from the earliest before a gold token on."""
    earliest = min(r.num_tokens - len(r.gold_ids) for r in batch)
    return longest(batch) - earliest + 1


def rows_in_order(
    requests: Sequence[ScoreRequest], rows_per_batch: int
) -> Iterator[Sequence[ScoreRequest]]:
    for start in range(0, len(requests), rows_per_batch):
        yield requests[start : start + rows_per_batch]


def longest(batch: Sequence[ScoreRequest]) -> int:
    return max(request.num_tokens for request in batch)


def padded(batch: Sequence[ScoreRequest], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and the mask of what is no padding: [B, T] each."""
    rows = [torch.tensor(request.token_ids) for request in batch]
    masks = [torch.ones_like(row) for row in rows]
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask_BT = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True)
    return ids_BT.to(device), mask_BT.to(device)


def likelihood(nll_N: Tensor) -> Likelihood:
    costs = tuple(nll_N.tolist())
    return Likelihood(sum(costs), costs)
